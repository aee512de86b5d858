"""gRPC against a daemon in a process of its own, a neighbour beside it."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.protocol.oip_messages import INFER_REQUEST, INFER_RESPONSE
from edged.protocol.protobuf import decode, encode, varint
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess
from tests.fakes.calls import OIP
from tests.hostile.baseline import bounded_peak, undisturbed
from tests.models import double

grpc = pytest.importorskip("grpc")

pytestmark = pytest.mark.slow

WAIT_S = 60
MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TENSOR = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
GOOD = {
    "model_name": "m", "inputs": [TENSOR],
    "raw_input_contents": [np.float32([[1, 2, 3, 4]]).tobytes()],
}  # fmt: skip


class RpcDaemon(DaemonProcess):
    @property
    def rpc(self) -> Path:
        return self.directory / "g"

    def head(self) -> str:
        return super().head().replace("listen: {", f"listen: {{grpc: {{path: {self.rpc}}}, ")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RpcDaemon]:
    folder = tmp_path_factory.mktemp("rpc")
    make_bundle(folder / "m.edgb", double(), name="m")
    made = RpcDaemon(folder)
    made.write(
        "trust: {require_signatures: false}\nlimits: {max_request: 4MiB}\n"
        "models: {m: {bundle: m.edgb}}\n"
    )
    try:
        made.start()
        with grpc.insecure_channel(f"unix:{made.rpc}") as channel:
            honest(channel)  # what the first call makes stays
        yield made
    finally:
        made.stop()


@pytest.fixture
def channel(daemon: RpcDaemon) -> Iterator[Any]:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"unix:{daemon.rpc}", options) as made:
        honest(made)  # so that its connection is there before and after
        yield made


def changed(**changes: Any) -> bytes:
    return encode(INFER_REQUEST, {**GOOD, **changes})


def tensor(**changes: Any) -> bytes:
    return changed(inputs=[{**TENSOR, **changes}])


def honest(channel: Any) -> None:
    data = channel.unary_unary(OIP + "ModelInfer")(changed(), timeout=WAIT_S)
    (raw,) = decode(INFER_RESPONSE, data)["raw_output_contents"]
    assert np.frombuffer(raw, np.float32).tolist() == [2, 4, 6, 8]


def growing(count: int) -> bytes:
    """Numbers of a byte each that are said to be INT64."""
    contents = b"\x1a" + varint(count) + b"\x01" * count
    entry = b"\x0a\x01x\x12\x05INT64\x1a" + varint(len(varint(count))) + varint(count)
    entry += b"\x2a" + varint(len(contents)) + contents
    return b"\x0a\x01m\x2a" + varint(len(entry)) + entry


NOISE = random.Random(1)
DATA = changed()
ATTACKS = {
    "cut short": (DATA[:-3], "INVALID_ARGUMENT"),
    "a length of 2^63": (b"\x0a" + varint(1 << 63), "INVALID_ARGUMENT"),
    "a length that does not end": (b"\x0a" + b"\xff" * 30, "INVALID_ARGUMENT"),
    "field 0": (b"\x02\x01a", "INVALID_ARGUMENT"),
    "groups": (b"\x0b" * 1000, "INVALID_ARGUMENT"),
    "no UTF-8": (b"\x0a\x02\xc3\x28" + DATA, "INVALID_ARGUMENT"),
    "noise": (NOISE.randbytes(4096), "INVALID_ARGUMENT"),
    "nothing": (b"", "NOT_FOUND"),
    "a million fields": (b"\x3a\x00" * 1_000_000, "INVALID_ARGUMENT"),
    "a million parameters": (b"\x22\x02\x0a\x00" * 500_000, "INVALID_ARGUMENT"),
    "a shape of 2^93": (tensor(shape=[1 << 31] * 3), "INVALID_ARGUMENT"),
    "a negative axis": (tensor(shape=[-1, 4]), "INVALID_ARGUMENT"),
    "many axes": (tensor(shape=[1] * 1000), "INVALID_ARGUMENT"),
    "small numbers that grow": (growing(3 << 20), "INVALID_ARGUMENT"),
    "over the limit": (changed(raw_input_contents=[bytes(6 << 20)]), "RESOURCE_EXHAUSTED"),
    "both contents": (tensor(contents={"fp32_contents": [1, 2, 3, 4]}), "INVALID_ARGUMENT"),
    "too few bytes": (changed(raw_input_contents=[b"abc"]), "INVALID_ARGUMENT"),
    "no such input": (tensor(name="nope"), "INVALID_ARGUMENT"),
    "no such model": (changed(model_name="../m\x00%2e" + "x" * 10_000), "NOT_FOUND"),
    "no such version": (changed(model_version="../1"), "INVALID_ARGUMENT"),
}  # fmt: skip


@pytest.mark.hostile("B19 a million fields of a gRPC message")
def test_every_hostile_message(daemon: RpcDaemon, channel: Any) -> None:
    """Each is refused with its status, memory stays, and an honest client is served after it."""
    ask = channel.unary_unary(OIP + "ModelInfer")
    with undisturbed(daemon), bounded_peak(daemon, 96):
        for name, (data, status) in ATTACKS.items():
            with pytest.raises(grpc.RpcError) as caught:
                ask(data, timeout=WAIT_S)
            assert caught.value.code().name == status, f"{name}: {caught.value.details()[:200]}"
            honest(channel)
    assert [one["ready"] for one in daemon.status()["models"]] == [True]


def frame(kind: int, body: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


WIRES = {
    "HTTP/1.1": b"POST /inference.GRPCInferenceService/ModelInfer HTTP/1.1\r\nHost: a\r\n\r\n",
    "a frame of the native protocol": b"EDGD" + bytes(60),
    "noise": NOISE.randbytes(512),
    "data for no stream": MAGIC + frame(4) + frame(0, b"abc", stream=5),
    "a frame of 16 MB": MAGIC + frame(4) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "a thousand settings": MAGIC + frame(4) * 1000,
    "a thousand pings": MAGIC + frame(4) + frame(6, bytes(8)) * 1000,
    "headers without end": MAGIC + frame(4) + frame(1, bytes(16000), stream=1) + b"".join(
        [frame(9, bytes(16000), stream=1)] * 50
    ),
    "resets": MAGIC + frame(4) + b"".join(
        [frame(3, bytes(4), stream=2 * n + 1) for n in range(500)]
    ),
}  # fmt: skip


@pytest.mark.hostile("B20 bytes that are no HTTP/2 on the socket of gRPC")
def test_every_hostile_wire(daemon: RpcDaemon, channel: Any) -> None:
    with undisturbed(daemon), bounded_peak(daemon, 96):
        for data in WIRES.values():
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(daemon.rpc))
                sock.settimeout(WAIT_S)
                try:
                    sock.sendall(data)
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(65536):
                        pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
            honest(channel)


def test_clients_that_go_away_at_every_point(daemon: RpcDaemon) -> None:
    start = (
        MAGIC + frame(4) + frame(1, b"\x83\x86\x44\x01/", flags=4, stream=1) + frame(0, b"\0" * 5)
    )
    with undisturbed(daemon):
        for at in range(0, len(start) + 1, 2):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(daemon.rpc))
                sock.sendall(start[:at])
        for _ in range(30):
            with grpc.insecure_channel(f"unix:{daemon.rpc}") as channel:
                ask = channel.unary_unary(OIP + "ModelInfer")
                calls = [ask.future(changed()) for _ in range(20)]
            assert len(calls) == 20
