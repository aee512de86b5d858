"""Loads, the log and traces over gRPC: on the administrators' socket, by who has the right, nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")

from edged.protocol import oip_messages as messages  # noqa: E402
from edged.protocol.protobuf import decode, encode  # noqa: E402
from tests.fakes.admin import AdminHouse, administered, allowed  # noqa: E402
from tests.fakes.calls import OIP  # noqa: E402
from tests.fakes.house import LOOPS, eventually  # noqa: E402
from tests.fakes.web import Visitor  # noqa: E402

LOAD, UNLOAD = OIP + "RepositoryModelLoad", OIP + "RepositoryModelUnload"
LOGGING, TRACING = OIP + "LogSettings", OIP + "TraceSetting"
OK, DENIED = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AdminHouse]:
    yield from administered(request.param, tmp_path / "a")


@contextlib.contextmanager
def channel(path: Path) -> Iterator[Any]:
    with grpc.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


def message(**fields: Any) -> bytes:
    return encode(messages.MODEL_CONTROL, fields)


def ask(made: Any, method: str, data: bytes, timeout: float = 30) -> tuple[Any, str]:
    try:
        made.unary_unary(method)(data, timeout=timeout)
    except grpc.RpcError as exc:
        return exc.code(), exc.details()
    return OK, ""


def test_loads_and_unloads(house: AdminHouse) -> None:
    with channel(house.path) as made:
        assert ask(made, LOAD, message(model_name="m 1")) == (OK, "")
        data = message(model_name="m", parameters={"unload_dependents": {"bool": False}})
        assert ask(made, UNLOAD, data) == (OK, "")
        assert house.admin.told == ["load m 1", "unload m"]
        status, text = ask(made, LOAD, message(model_name="nope"))
        assert (status, text.partition(":")[0]) == (
            grpc.StatusCode.NOT_FOUND, "Request for unknown model",
        )  # fmt: skip
        assert ask(made, LOAD, message(model_name="bad")) == (
            grpc.StatusCode.INTERNAL, "failed to load bad",
        )  # fmt: skip
        assert ask(made, LOAD, message(model_name="odd"))[0] is grpc.StatusCode.INTERNAL
        for fields in (
            {"parameters": {"config": {"string": "{}"}}},
            {"parameters": {"file:1/model.onnx": {"bytes": b"x"}}},
            {"parameters": {"x": {}}},
        ):
            status, _ = ask(made, LOAD, message(model_name="m", **fields))
            assert status is grpc.StatusCode.INVALID_ARGUMENT
        named = message(model_name="m", repository_name="r")
        assert ask(made, LOAD, named)[0] is grpc.StatusCode.NOT_FOUND
        assert ask(made, LOAD, b"\xff")[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert house.admin.told == ["load m 1", "unload m"]


def test_the_log(house: AdminHouse) -> None:
    def told(made: Any, **settings: Any) -> Any:
        data = encode(messages.LOG_SETTINGS, {"settings": settings})
        found = decode(messages.LOG_SETTINGS, made.unary_unary(LOGGING)(data, timeout=30))
        return found["settings"]

    with channel(house.path) as made:
        assert told(made)["log_info"] == {"bool": True}
        assert told(made)["log_file"] == {"string": ""}
        assert told(made, log_verbose_level={"uint32": 1})["log_verbose_level"] == {"uint32": 1}
        assert house.admin.level == "debug"
        told(made, log_info={"bool": False})
        assert house.admin.level == "warning"
        for name, value in (
            ("log_error", {"bool": False}), ("log_file", {"string": "/tmp/x"}),
            ("log_info", {"string": "no"}), ("log_info", {}),
        ):  # fmt: skip
            data = encode(messages.LOG_SETTINGS, {"settings": {name: value}})
            assert ask(made, LOGGING, data)[0] is INVALID
        assert ask(made, LOGGING, b"\xff")[0] is INVALID
    assert house.admin.level == "warning"


def test_traces(house: AdminHouse) -> None:
    def message(name: str, *values: str, model: str = "") -> bytes:
        fields = {"settings": {name: {"value": list(values)}}, "model_name": model}
        return encode(messages.TRACE_SETTINGS, fields)

    with channel(house.path) as made:
        found = decode(messages.TRACE_SETTINGS, made.unary_unary(TRACING)(b"", timeout=30))
        assert found["settings"]["trace_level"] == {"value": ["OFF"]}
        assert found["settings"]["trace_count"] == {"value": ["0"]}
        for fine in (
            message("trace_level", "OFF"), message("trace_level"), message("trace_rate"),
            message("trace_rate", "0", model="m"),
        ):  # fmt: skip
            assert ask(made, TRACING, fine) == (OK, "")
        for bad in (
            message("trace_level", "TIMESTAMPS"), message("trace_level", "OFF", "TENSORS"),
            message("trace_rate", "1000"), message("trace_rate", "0", "0"),
        ):  # fmt: skip
            assert ask(made, TRACING, bad)[0] is INVALID
        assert ask(made, TRACING, message("trace_level", model="nope"))[0] is NOT_FOUND


@pytest.mark.hostile("B12 load and unload through the inference socket")
def test_each_right_is_asked_for(house: AdminHouse) -> None:
    with channel(house.path) as made:
        house.call(house.grpc.gate.follow, allowed("load", models=("cam-*",)))
        assert ask(made, LOAD, message(model_name="cam-1"))[0] is OK
        assert ask(made, LOAD, message(model_name="m"))[0] is DENIED
        assert ask(made, UNLOAD, message(model_name="cam-1"))[0] is DENIED
        for verb, method in (("logging", LOGGING), ("trace", TRACING)):
            assert ask(made, method, b"")[0] is DENIED
            house.call(house.grpc.gate.follow, allowed(verb))
            assert ask(made, method, b"")[0] is OK
    assert house.admin.told == ["load cam-1"]


def test_the_other_protocols_are_spoken_there_all_the_same(house: AdminHouse) -> None:
    with channel(house.path) as made, contextlib.closing(Visitor(house.path)) as visitor:
        assert ask(made, LOAD, message(model_name="m"))[0] is OK
        assert visitor.ask("POST", "/v2/repository/models/m/load")[0] == 200
    assert (house.grpc.accepted, house.http.accepted) == (1, 1)


def test_who_gives_up(house: AdminHouse) -> None:
    with channel(house.path) as made:
        call = made.unary_unary(LOAD).future(message(model_name="slow"))
        eventually(lambda: house.admin.gate is not None)
        call.cancel()
        eventually(lambda: house.admin.ended == 1)
    assert house.admin.told == []
