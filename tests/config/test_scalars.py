"""Spelling of values, there and back."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.broker import TlsConfig
from edged.config.document import Scalar
from edged.config.problems import Mark
from edged.config.scalars import FAILED, format_value, read_scalar
from edged.specs import Duration, Size


def plain(text: str, base: object) -> object:
    return read_scalar(Scalar(Mark("x"), text, plain=True), base)


def quoted(text: str, base: object) -> object:
    return read_scalar(Scalar(Mark("x"), text, plain=False), base)


@pytest.mark.parametrize(
    "text", ["017", "0x1f", "0o7", "1_000", "+5", "1e3", "5.0", "", "٣", " 5", "9" * 30]
)
def test_numbers_are_plain_decimal(text: str) -> None:
    assert plain(text, int) is FAILED


@pytest.mark.parametrize("text", [".inf", "nan", "inf", "1e999", ".5", "5.", "1_0.0", "0x1p3"])
def test_floats_are_finite(text: str) -> None:
    assert plain(text, float) is FAILED


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "True", "TRUE", "1", "y", ""])
def test_truth_is_true_or_false(text: str) -> None:
    assert plain(text, bool) is FAILED


def test_what_reads() -> None:
    assert plain("-12", int) == -12
    assert plain("1.5e-3", float) == 0.0015
    assert plain("3", float) == 3.0
    assert plain("true", bool) is True
    assert plain("017", str) == "017"
    assert plain("null", str) is FAILED
    assert quoted("null", str) == "null"
    assert quoted("", str) == ""
    assert quoted("5", int) is quoted("true", bool) is FAILED
    assert plain("5", Literal["auto", "5"]) == quoted("5", Literal["auto", "5"]) == "5"
    assert plain("0", Duration) == 0
    assert plain("5", Duration) is plain("5", Size) is FAILED


@given(st.integers(0, 10**6), st.sampled_from(["ns", "us", "ms", "s", "min", "h"]))
def test_durations_there_and_back(number: int, unit: str) -> None:
    value = plain(f"{number}{unit}", Duration)
    assert plain(format_value(value), Duration) == value


@given(st.integers(0, 10**6), st.sampled_from(["B", "KiB", "MiB", "kB", "MB"]))
def test_sizes_there_and_back(number: int, unit: str) -> None:
    value = plain(f"{number}{unit}", Size)
    assert plain(format_value(value), Size) == value


def test_format() -> None:
    assert format_value({"a": (1, None, True)}) == "{a: [1, null, true]}"
    assert format_value(TlsConfig(ca="x")) == "{ca: x, cert: null, key: null, alpn: []}"
    assert format_value(1.5) == "1.5"
