"""The log's level as the protocol's switches say it, and what is refused of loads and traces."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, EdgedError, InvalidRequestError
from edged.protocol.oip_settings import (
    LEVELS,
    check_load,
    check_trace,
    check_unload,
    level_of,
    log_document,
    trace_document,
)


def body(**members: Any) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_told_asks_for_the_same(level: str) -> None:
    for now in LEVELS:
        assert level_of(json.dumps(log_document(level)).encode(), now) == level


@pytest.mark.parametrize(
    ("now", "members", "level"),
    [
        ("info", {}, "info"),
        ("info", {"log_verbose_level": 1}, "debug"),
        ("debug", {"log_verbose_level": 0}, "info"),
        ("debug", {"log_info": False}, "warning"),
        ("debug", {"log_warning": False}, "error"),
        ("error", {"log_info": True}, "info"),
        ("info", {"log_warning": True}, "info"),
        ("error", {"log_warning": True, "log_info": False}, "warning"),
        ("info", {"log_format": "default", "log_file": "", "log_of_another": 3}, "info"),
    ],
)
def test_switches(now: str, members: dict[str, Any], level: str) -> None:
    assert level_of(body(**members), now) == level


@pytest.mark.parametrize(
    "members",
    [
        {"log_error": False},
        {"log_info": True, "log_warning": False},
        {"log_verbose_level": 2, "log_info": False},
        {"log_verbose_level": -1},
        {"log_verbose_level": True},
        {"log_info": 1},
        {"log_info": "true"},
        {"log_file": "/etc/cron.d/x"},
        {"log_format": "ISO8601"},
    ],
)
def test_what_there_is_not(members: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        level_of(body(**members), "info")


def test_loads_bring_nothing_along() -> None:
    for data in (b"", b"{}", body(parameters={})):
        check_load(data)
        check_unload(data)
    check_unload(body(parameters={"unload_dependents": False}))
    for name in ("config", "file:1/model.onnx", "x"):
        with pytest.raises(InvalidRequestError, match="failed to load"):
            check_load(body(parameters={name: "{}"}))
    for parameters in ({"unload_dependents": True}, {"x": False}, {"unload_dependents": 0}):
        with pytest.raises(InvalidRequestError, match="failed to unload"):
            check_unload(body(parameters=parameters))


def test_traces_stay_off() -> None:
    for members in (
        {},
        trace_document(),
        {"trace_level": None, "trace_rate": None},
        {"trace_level": ["OFF"]},
    ):
        check_trace(body(**members))
    for members in (
        {"trace_level": ["TIMESTAMPS"]},
        {"trace_rate": "1"},
        {"trace_file": "/etc/passwd"},
        {"trace_rate": 1},
    ):
        with pytest.raises(InvalidRequestError):
            check_trace(body(**members))


@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    for check in (check_load, check_unload, check_trace, lambda d: level_of(d, "info")):
        with contextlib.suppress(EdgedError):
            check(data)


def test_depth_is_no_trouble() -> None:
    with pytest.raises(DecodeError):
        check_load(b'{"parameters":' + b"[" * 30_000)
