"""Rules and bounds over gRPC: of each connection, as over HTTP, told in gRPC's words."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from edged.access.gate import Access  # noqa: E402
from edged.access.policy import Policy, build_rule  # noqa: E402
from edged.access.quotas import build_quota  # noqa: E402
from edged.config.access import QuotaConfig, RuleConfig  # noqa: E402
from edged.config.listen import SharedMemoryConfig  # noqa: E402
from edged.protocol import oip_messages as messages  # noqa: E402
from edged.protocol.protobuf import decode, encode  # noqa: E402
from edged.transports.grpc import http2_peer  # noqa: E402
from tests.fakes.calls import OIP  # noqa: E402
from tests.fakes.house import eventually  # noqa: E402
from tests.fakes.http2_house import Caller  # noqa: E402
from tests.fakes.rpc import Rpc  # noqa: E402

WAIT_S = 30
X = np.float32([[1, 2]])
ME = str(os.getuid())
INFER = OIP + "ModelInfer"
DENIED, EXHAUSTED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED


def rules(*entries: dict[str, Any], **quota: Any) -> Access:
    """Rules that hold for everybody: nobody owns this daemon, not even root."""
    made = tuple(
        build_rule(RuleConfig(**entry), f"access.rules[{index}]", int, int)
        for index, entry in enumerate(entries)
    )
    quotas = ()
    if quota:
        uids = frozenset((os.getuid(),))
        quotas = (build_quota(QuotaConfig(users=(ME,), **quota), "access.quotas[0]", uids),)
    return Access(Policy(made if entries or not quota else None), quotas)


MINE = {"users": (ME,), "models": ("m",), "allow": ("infer", "metadata")}
NOBODY = {"users": ("4123456",), "allow": ("infer", "metadata")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "g"


@pytest.fixture
def rpc(path: Path) -> Iterator[Rpc]:
    made = Rpc().start(path, frame_timeout=10**9)
    yield made
    made.call(made.door.release_all)
    made.stop()
    assert made.trouble == []


@contextlib.contextmanager
def channel(path: Path) -> Iterator[Any]:
    """A connection of its own: without the option, channels to one address share theirs."""
    with grpc.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


def follow(rpc: Rpc, access: Access) -> None:
    rpc.call(rpc.server.gate.follow, access)


def message(model: str = "m", **changes: Any) -> bytes:
    document = {
        "model_name": model, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2]}],
        "raw_input_contents": [X.tobytes()], **changes,
    }  # fmt: skip
    return encode(messages.INFER_REQUEST, document)


def ask(made: Any, data: bytes = b"", path: str = INFER) -> Any:
    """The status of a call, and what it says."""
    try:
        said = made.unary_unary(path)(data or message(), timeout=WAIT_S)
    except grpc.RpcError as exc:
        return exc.code(), exc.details(), dict(exc.trailing_metadata() or ())
    return grpc.StatusCode.OK, said, {}


def code(*arguments: Any) -> Any:
    return ask(*arguments)[0]


OK = grpc.StatusCode.OK


def heard(path: Path) -> bytes:
    """All that is said to a client that says nothing, until it is cut off."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(WAIT_S)
        sock.connect(str(path))
        return b"".join(iter(lambda: sock.recv(4096), b""))


class TestRules:
    @pytest.mark.parametrize(
        ("rule", "wanted"),
        [
            (MINE, OK),
            ({**MINE, "users": ("*",)}, OK),
            ({**MINE, "users": (), "groups": (str(os.getgid()),)}, OK),
            ({**MINE, "users": ("4123456",)}, DENIED),
            ({**MINE, "users": (), "groups": ("4123456",)}, DENIED),
            ({**MINE, "models": ("n*",)}, DENIED),
            ({**MINE, "allow": ("metadata",)}, DENIED),
            ({"tcp": True, "allow": ("infer",)}, DENIED),
        ],
    )
    def test_who_is_meant(self, rpc: Rpc, path: Path, rule: dict[str, Any], wanted: Any) -> None:
        follow(rpc, rules(rule))
        with channel(path) as made:
            status, said, _ = ask(made)
            assert status is wanted
            if wanted is DENIED:
                assert said == f'infer of model "m" is not allowed for uid {ME} on this socket'
        assert len(rpc.door.requests) == (wanted is OK)

    def test_a_reload_takes_and_gives_on_the_same_connection(self, rpc: Rpc, path: Path) -> None:
        """Also what was prepared, which is asked without being read: see ``grpc_repeats``."""
        rpc.door.is_quiet = True
        with channel(path) as made:
            for is_allowed in (True, False, True, False):
                follow(rpc, rules(MINE if is_allowed else NOBODY))
                prepared = rpc.door.prepared
                found = {code(made) for _ in range(20)}
                assert found == {OK if is_allowed else DENIED}
                assert rpc.door.prepared == prepared + is_allowed
            assert rpc.server.accepted == 1
            lone = len(rpc.door.lone)
            assert lone >= 20
            assert code(made) is DENIED
            assert len(rpc.door.lone) == lone

    def test_the_first_rules_hold_for_what_was_prepared_before(self, rpc: Rpc, path: Path) -> None:
        rpc.door.is_quiet = True
        with channel(path) as made:
            assert {code(made) for _ in range(20)} == {OK}
            assert rpc.door.lone
            follow(rpc, rules(NOBODY))
            assert {code(made) for _ in range(20)} == {DENIED}

    def test_what_waits_is_taken_out(self, rpc: Rpc, path: Path) -> None:
        follow(rpc, rules(MINE))
        with channel(path) as made:
            rpc.door.is_holding = True
            calls = [
                made.unary_unary(INFER).future(message(), timeout=WAIT_S),
                made.stream_stream(OIP + "ModelStreamInfer")(iter([message()]), timeout=WAIT_S),
            ]
            eventually(lambda: len(rpc.door.held) == 2)
            follow(rpc, rules(NOBODY))
            with pytest.raises(grpc.RpcError) as caught:
                calls[0].result()
            assert caught.value.code() is DENIED
            answer = decode(messages.STREAM_RESPONSE, next(calls[1]))
            assert "is not allowed" in answer["error_message"]
            assert rpc.door.cancelled == 2

    def test_a_stream_that_goes_on(self, rpc: Rpc, path: Path) -> None:
        follow(rpc, rules(MINE))
        with channel(path) as made:
            say = iter([message(), message("secret"), message()])
            heard = made.stream_stream(OIP + "ModelStreamInfer")(say, timeout=WAIT_S)
            answers = [decode(messages.STREAM_RESPONSE, one) for one in heard]
        assert ["error_message" in one for one in answers] == [False, True, False]

    def test_pages_of_what_may_not_be_seen(
        self, rpc: Rpc, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = [{"name": "m", "state": "READY"}, {"name": "secret", "state": "READY"}]
        monkeypatch.setattr(rpc.pages, "index", lambda *, ready: index)
        follow(rpc, rules(MINE))
        named = encode(messages.NAME_VERSION, {"name": "secret"})
        with channel(path) as made:
            for method in ("ModelMetadata", "ModelConfig", "ModelStatistics", "ModelReady"):
                status, said, _ = ask(made, named, OIP + method)
                assert (status, "is not allowed" in said) == (DENIED, True)
            said = decode(messages.INDEX, ask(made, b"\x10\x00", OIP + "RepositoryIndex")[1])
            assert [one["name"] for one in said["models"]] == ["m"]
            follow(rpc, Access())
            said = decode(messages.INDEX, ask(made, b"\x10\x00", OIP + "RepositoryIndex")[1])
            assert len(said["models"]) == 2


class TestBounds:
    def test_requests_that_come_too_fast(self, rpc: Rpc, path: Path) -> None:
        follow(rpc, rules(requests_per_second=1, burst=5))
        rpc.door.is_quiet = True
        with channel(path) as made, channel(path) as other:
            found = [ask(each) for each in (made, other) for _ in range(12)]
            assert [one[0] for one in found[:5]] == [OK] * 5
            status, said, trailers = found[-1]
            assert status is EXHAUSTED
            assert f"more than 1 requests a second of uid {ME}" in said
            assert 0 < int(trailers["grpc-retry-pushback-ms"]) <= 1000
            assert code(made, b"\x10\x00", OIP + "RepositoryIndex") is EXHAUSTED
            # Probes are not counted.
            for method in (OIP + "ServerLive", OIP + "ServerReady", "/grpc.health.v1.Health/Check"):
                assert code(made, b"\x10\x00", method) is OK
        assert rpc.server.gate.refusals["rate"] >= 10

    def test_bytes_in_flight(self, rpc: Rpc, path: Path) -> None:
        follow(rpc, rules(in_flight=1024))
        big = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [100, 2]}]}
        data = message(**big, raw_input_contents=[bytes(800)])
        with channel(path) as made:
            rpc.door.is_holding = True
            waiting = made.unary_unary(INFER).future(data, timeout=WAIT_S)
            eventually(lambda: rpc.door.held)
            status, said, _ = ask(made, data)
            assert status is EXHAUSTED
            assert "access.quotas[0].in_flight" in said
            rpc.call(rpc.door.release_all)
            assert waiting.result()
            rpc.door.is_holding = False
            assert code(made, data) is OK

    def test_connections(self, rpc: Rpc, path: Path) -> None:
        follow(rpc, rules(connections=2))
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(channel(path)) for _ in range(3)]
            assert [code(one) for one in made[:2]] == [OK, OK]
            status, said, trailers = ask(made[2])
            assert status is EXHAUSTED
            assert "the most allowed (access.quotas[0].connections)" in said
            assert "grpc-retry-pushback-ms" in trailers
            stream = made[2].stream_stream(OIP + "ModelStreamInfer")(iter([message()]))
            with pytest.raises(grpc.RpcError) as caught:
                next(stream)
            assert caught.value.code() is EXHAUSTED
            assert rpc.server.refused >= 1
            assert (len(rpc.server.connections), len(rpc.door.requests)) == (2, 2)
            made[0].close()
            eventually(lambda: len(rpc.server.connections) == 1)
            # By itself: the client connects again once it was told to go.
            eventually(lambda: code(made[2]) is OK)
        eventually(lambda: not rpc.server.connections and not rpc.server.turned_away)

    def test_who_is_turned_away_is_soon_gone_and_only_a_few_are_told_why(
        self, rpc: Rpc, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http2_peer, "_TURNED_AWAY", 2)
        monkeypatch.setattr(http2_peer, "_LINGER_S", 60.0)
        follow(rpc, rules(connections=1))
        with contextlib.ExitStack() as stack:

            def caller() -> Caller:
                made = Caller(path)
                stack.callback(made.close)
                return made

            first, *others = [caller() for _ in range(3)]
            assert first.answer(first.ask(INFER, message()))[1]["grpc-status"] == "0"
            for each in others:
                for _ in range(2):
                    assert each.answer(each.ask(INFER, message()))[1]["grpc-status"] == "8"
            assert len(rpc.server.turned_away) == 2
            assert b"access.quotas[0].connections" in heard(path)
            others[0].close()
            eventually(lambda: len(rpc.server.turned_away) == 1)
            monkeypatch.setattr(http2_peer, "_LINGER_S", 0.01)
            assert b"access.quotas[0]" not in heard(path)


def test_each_connection_prepares_its_own(rpc: Rpc, path: Path) -> None:
    """What one client said is never used for another."""
    follow(rpc, rules(MINE))
    with channel(path) as one, channel(path) as other:
        for made in (one, other):
            assert {code(made) for _ in range(6)} == {OK}
        assert rpc.door.prepared == 2


def test_the_real_gate_denies_what_no_rule_allows(rpc: Rpc, path: Path) -> None:
    """The control: where nothing asks the gate, every test here would see an answer."""
    with channel(path) as made:
        assert code(made) is OK
        follow(rpc, rules(NOBODY))
        assert code(made) is DENIED
        assert rpc.server.gate.refusals["rule"] == 1


def test_memory_by_name_needs_a_right_of_its_own(rpc: Rpc, path: Path) -> None:
    """Also each use of what was registered while it was allowed."""
    name = f"edged_rules_{os.getpid()}"
    file = Path("/dev/shm") / name
    file.write_bytes(X.tobytes())
    region = encode(messages.REGION, {"name": "r", "key": f"/{name}", "byte_size": 8})
    place = {
        "shared_memory_region": {"string": "r"}, "shared_memory_byte_size": {"int64": 8},
    }  # fmt: skip
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": place}
    data = message(inputs=[tensor], raw_input_contents=())
    register = OIP + "SystemSharedMemoryRegister"
    try:
        with channel(path) as made:
            assert code(made, region, register) is DENIED
            rpc.call(rpc.server.service.memory.allow, SharedMemoryConfig())
            follow(rpc, rules(MINE))
            assert code(made, region, register) is DENIED
            follow(rpc, rules(MINE, {"users": (ME,), "allow": ("shared_memory",)}))
            assert code(made, region, register) is OK
            assert code(made, data) is OK
            assert rpc.door.requests[-1].inputs["x"].tolist() == X.tolist()
            follow(rpc, rules(MINE))
            assert code(made, data) is DENIED
            # It may still tidy up.
            assert code(made, b"\x0a\x01r", OIP + "SystemSharedMemoryUnregister") is OK
    finally:
        file.unlink()
