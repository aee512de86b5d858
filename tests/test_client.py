"""The client against the real server over a real socket, from one thread and from many."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edged
from edged.client import Client
from edged.errors import (
    DeadlineExceededError,
    DisconnectedError,
    EdgedError,
    InvalidRequestError,
    LayoutChangedError,
    ModelNotFoundError,
    QueueFullError,
    RemoteProtocolError,
    TensorMismatchError,
)
from edged.messages import InferRequest, InferResponse
from edged.protocol import native
from edged.protocol.frames import FrameReader, Limits
from edged.specs import Size
from edged.tensors import DTYPES
from tests.fakes.house import LOOPS, House, eventually, houses
from tests.fakes.wire import answer, header, joined

X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    yield from houses(request.param, tmp_path / "s")


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with Client(house.path) as made:
        yield made


class Listener:
    """A server made by hand, for what the real one never does."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(path))
        self.socket.listen()
        self.socket.settimeout(10)
        self.peers: list[socket.socket] = []

    def accept(self) -> socket.socket:
        self.peers.append(self.socket.accept()[0])
        return self.peers[-1]

    def close(self) -> None:
        for peer in [*self.peers, self.socket]:
            peer.close()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "l")
    yield made
    made.close()


class TestInfer:
    def test_named_arrays_in_and_out(self, house: House, client: Client):
        house.start()
        result = client.infer("m", x=X, y=np.uint8(3))
        np.testing.assert_array_equal(result["x"], X)
        assert set(result) == {"x", "y"}
        assert result["y"].shape == ()
        assert (result.model, result.release, result.generation) == ("m", 7, 3)
        assert result.batch_rows == 1
        assert edged.Client is Client

    def test_what_is_asked_arrives(self, house: House, client: Client):
        house.start()
        client.infer("m", {"no word": X}, release="champion", outputs=["a"], timeout=5, x=X)
        request = house.door.requests[0]
        assert list(request.inputs) == ["no word", "x"]
        assert (request.release, request.outputs) == ("champion", ("a",))
        assert 0 < request.deadline_ns - time.monotonic_ns() <= 5 * 10**9

    def test_no_timeout(self, house: House):
        house.start()
        with Client(house.path, timeout=None) as client:
            client.infer("m", x=X)
        assert house.door.requests[0].deadline_ns is None

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, house: House, client: Client, dtype: str):
        house.start()
        for shape in [(), (0,), (3,), (2, 3, 1000)]:
            sent = (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2).astype(dtype)
            got = client.infer("m", x=sent)["x"]
            assert (got.dtype, got.shape) == (sent.dtype, shape)
            np.testing.assert_array_equal(got, sent)

    def test_any_layout_of_memory(self, house: House, client: Client):
        house.start()
        for sent in (X.T, X[:, ::2], X[::-1], X.astype(">f4"), np.asfortranarray(X), X[0, 0]):
            np.testing.assert_array_equal(client.infer("m", x=sent)["x"], sent)

    def test_large_tensors(self, house: House, client: Client):
        house.start()
        big = np.random.default_rng(0).random((5, 1 << 20), np.float32)
        got = client.infer("m", big=big, small=X)
        np.testing.assert_array_equal(got["big"], big)
        np.testing.assert_array_equal(got["small"], X)

    def test_errors_are_the_servers(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        pending = client.submit("m", x=X)
        eventually(lambda: house.door.held)
        error = QueueFullError("its queue is full", retry_after_ns=7)
        house.call(house.door.held[0][1], InferResponse("m", 1, 1, error=error), True)
        with pytest.raises(QueueFullError, match="its queue is full") as caught:
            pending.result()
        assert caught.value.retry_after_ns == 7

    @pytest.mark.parametrize("value", [[1, 2], 3.5, "text", memoryview(b"12"), None])
    def test_no_array(self, house: House, client: Client, value: object):
        house.start()
        with pytest.raises(InvalidRequestError, match=r'"x" is a .*; expected a NumPy array'):
            client.infer("m", x=value)

    def test_an_array_of_another_library(self, house: House, client: Client):
        class Tensor:
            dtype = "torch.float32"

        with pytest.raises(InvalidRequestError, match='"x" is a Tensor; expected a NumPy array'):
            client.infer("m", x=Tensor())

    @pytest.mark.parametrize("fields", [{"x": np.array([None])}, {"release": 2**70}])
    def test_what_cannot_be_sent_does_not_break_the_connection(
        self, house: House, client: Client, fields: dict
    ):
        house.start()
        client.infer("m", x=X)
        with pytest.raises(EdgedError):
            client.infer("m", **fields)
        assert client.infer("m", x=X)
        assert house.server.accepted == 1

    def test_calls(self, house: House, client: Client):
        house.start()
        assert client.status() == {"asked": {}}
        assert client.call("status", model="m") == {"asked": {"model": "m"}}
        with pytest.raises(ModelNotFoundError, match="no such model"):
            client.call("fail", model="m")
        with pytest.raises(EdgedError, match='no call "models"'):
            client.models()
        with pytest.raises(EdgedError, match="plain values"):
            client.call("status", what=object())


class TestMany:
    def test_answers_in_any_order(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        pending = [client.submit("m", x=X * n) for n in range(20)]
        eventually(lambda: len(house.door.held) == 20)
        for request, on_response in reversed(house.door.held):
            house.call(answer, request, on_response)
        for n in reversed(range(20)):
            np.testing.assert_array_equal(pending[n].result()["x"], X * n)
        assert all(one.is_done for one in pending)

    def test_result_may_be_asked_twice(self, house: House, client: Client):
        house.start()
        pending = client.submit("m", x=X)
        np.testing.assert_array_equal(pending.result()["x"], pending.result()["x"])

    def test_threads_share_a_client(self, house: House, client: Client):
        """8 threads, 200 calls each: every answer is the one to its request."""
        house.start()
        wrong: list[object] = []

        def work(thread: int) -> None:
            for n in range(200):
                sent = np.array([thread, n])
                try:
                    got = client.infer("m", x=sent)["x"]
                    if not np.array_equal(got, sent):
                        wrong.append((sent, got))
                except EdgedError as exc:
                    wrong.append(exc)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not wrong
        assert house.server.accepted == 1

    def test_2000_requests_before_the_first_answer_is_read(self, house: House, client: Client):
        """No deadlock: a client that cannot write reads."""
        house.start(max_in_flight=4096)
        sent = np.zeros((40, 256), np.uint32)
        pending = []
        for n in range(2000):
            sent[0, 0] = n
            pending.append(client.submit("m", x=sent))
        for n, one in enumerate(pending):
            assert one.result()["x"][0, 0] == n

    @pytest.mark.parametrize("way", ["infer", "prepared"])
    def test_threads_while_the_server_goes_away_again_and_again(
        self, house: House, client: Client, way: str
    ):
        """Answered rightly or DisconnectedError; never another's answer, never stuck."""
        house.start()
        prepared = client.prepare("m", x=((None,), "int64"))
        wrong: list[object] = []
        good = [0]
        stop = threading.Event()

        def work(thread: int) -> None:
            n = 0
            while not stop.is_set():
                n += 1
                sent = np.full(thread * 3000 + 1, n)
                try:
                    got = prepared(sent) if way == "prepared" else client.infer("m", x=sent)
                    if not np.array_equal(got["x"], sent):
                        wrong.append(sent)
                    good[0] += 1
                except DisconnectedError:
                    pass
                except BaseException as exc:
                    wrong.append(exc)
                    return

        def drop_all() -> None:
            for connection in list(house.server.connections):
                connection._transport.abort()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(30):
            before = good[0]
            eventually(lambda before=before: good[0] > before + 3 or wrong)
            house.call(drop_all)
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert not wrong, wrong[:3]


class TestPrepared:
    def test_the_same_call_three_ways(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"), z=((), np.int64))
        assert [str(spec) for spec in call.inputs] == ["float32[batch,4]", "int64[]"]
        assert [spec.name for spec in call.outputs] == ["x", "z"]
        z = np.int64(5)
        for rows in (1, 3, 5000):
            x = np.random.default_rng(rows).random((rows, 4), np.float32)
            for result in (call(x, z), call.infer(x=x, z=z), call.submit({"x": x}, z=z).result()):
                np.testing.assert_array_equal(result["x"], x)
                assert result["z"] == 5
                assert (result.model, result.release, result.generation) == ("m", 7, 3)
        assert house.server.accepted == 1

    def test_many_in_flight(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((2, 4), "float32"))
        pending = [call.submit(x=X * n) for n in range(500)]
        for n, one in enumerate(pending):
            np.testing.assert_array_equal(one.result()["x"], X * n)

    def test_the_timeout_is_sent(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        call(X, timeout=5)
        assert 0 < house.door.requests[0].deadline_ns - time.monotonic_ns() <= 5 * 10**9

    @pytest.mark.parametrize(
        "x", [X[:, :3], X.astype(np.float64), X[0], [1, 2]], ids=["width", "dtype", "rank", "list"]
    )
    def test_other_arrays_are_refused_here(self, house: House, client: Client, x: object):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        with pytest.raises(InvalidRequestError, match=r"expected a NumPy array|prepared for"):
            call(x)
        with pytest.raises(InvalidRequestError, match="2 arrays; this call was prepared for x"):
            call(X, X)
        assert call(X)
        assert house.server.accepted == 1

    def test_outlives_the_connection(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        for _ in range(3):
            assert call(X)
            for connection in list(house.server.connections):
                house.call(connection.close)
            eventually(lambda: not house.server.connections)
        assert call.outputs
        assert house.server.accepted == 3

    def test_prepared_again_when_the_signature_changed(self, house: House, client: Client):
        """The request was refused unrun; the caller does not notice when its arrays still fit."""
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        house.door.error = LayoutChangedError("prepare it again")
        np.testing.assert_array_equal(call(X)["x"], X)
        assert house.door.prepared == 2
        house.door.error = LayoutChangedError("prepare it again")
        with pytest.raises(LayoutChangedError):
            call.submit(x=X).result()

    def test_a_layout_that_fits_no_more(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        house.door.error = LayoutChangedError("prepare it again")
        house.door.refusal = TensorMismatchError('wants float32[batch,5] for "x"')
        with pytest.raises(TensorMismatchError, match=r"batch,5"):
            call(X)
        house.door.refusal = None
        assert call(X), "and if it fits again it works again"

    def test_close_forgets(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None, 4), "float32"))
        call.close()
        call.close()
        assert call(X)
        (connection,) = house.server.connections
        assert list(connection._requests._handles) == [2]

    def test_threads_share_one(self, house: House, client: Client):
        house.start()
        call = client.prepare("m", x=((None,), "int64"))
        wrong: list[object] = []

        def work(thread: int) -> None:
            for n in range(200):
                sent = np.array([thread, n])
                if not np.array_equal(call(sent)["x"], sent):
                    wrong.append(sent)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not wrong


class TestConnection:
    def test_nobody_listens(self, tmp_path: Path):
        with (
            Client(tmp_path / "none") as client,
            pytest.raises(
                DisconnectedError, match=r"cannot connect to .*/none: No such file.*edged run"
            ),
        ):
            client.infer("m", x=X)

    def test_path_from_the_environment(self, house: House, monkeypatch: pytest.MonkeyPatch):
        house.start()
        monkeypatch.setenv("EDGED_SOCKET", str(house.path))
        with Client() as client:
            assert client.infer("m", x=X)
        monkeypatch.delenv("EDGED_SOCKET")
        assert Client().path == "/run/edged/edged.sock"

    def test_reconnects_after_the_server_closed(self, house: House, client: Client):
        house.start()
        client.infer("m", x=X)
        house.call(house.server.close)
        eventually(lambda: not house.server.connections)
        with pytest.raises(DisconnectedError):
            client.infer("m", x=X)
        house.start()
        assert client.infer("m", x=X)

    def test_waiting_calls_hear_that_the_connection_broke(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        pending = [client.submit("m", x=X) for _ in range(3)]
        eventually(lambda: len(house.door.held) == 3)
        house.call(house.server.close)
        for one in pending:
            with pytest.raises(DisconnectedError, match="the daemon closed the connection"):
                one.result()

    def test_close_wakes_who_waits(self, house: House, client: Client):
        house.start()
        house.door.is_holding = True
        caught: list[BaseException] = []

        def work() -> None:
            try:
                client.infer("m", x=X)
            except EdgedError as exc:
                caught.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        eventually(lambda: house.door.held)
        client.close()
        thread.join(10)
        assert [type(exc) for exc in caught] == [DisconnectedError]
        client.close()

    def test_refused_connection_says_why(self, house: House, client: Client):
        house.start(max_connections=1)
        client.infer("m", x=X)
        for _ in range(20):
            with (
                Client(house.path) as late,
                pytest.raises(QueueFullError, match=r"listen\.max_connections"),
            ):
                late.infer("m", x=X)

    def test_request_over_the_limit_says_so(self, house: House, client: Client):
        """The reason, not "broken pipe", although the daemon closed in the middle of the write."""
        house.start(max_request=Size(1 << 20))
        for _ in range(5):
            with pytest.raises(RemoteProtocolError, match=r"limits\.max_request"):
                client.infer("m", x=np.zeros(8 << 20, np.uint8))
        assert client.infer("m", x=X)

    def test_garbage_from_the_server(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l") as client:
            pending = client.submit("m", x=X)
            listener.accept().sendall(header(magic=b"HTTP"))
            with pytest.raises(DisconnectedError, match="does not start with EDGD"):
                pending.result()

    def test_good_answer_before_garbage_counts(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l") as client:
            pending = client.submit("m", x=X)
            good = native.encode_response(1, InferResponse("m", 1, 1, {"y": X}))
            listener.accept().sendall(joined(good) + header(magic=b"HTTP"))
            np.testing.assert_array_equal(pending.result()["y"], X)

    def test_answers_to_nobody_are_ignored(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l") as client:
            pending = client.submit("m", x=X)
            stray = native.encode_response(99, InferResponse("m", 1, 1, {"y": X}))
            good = native.encode_response(1, InferResponse("m", 1, 1, {"y": X * 2}))
            listener.accept().sendall(joined(stray) + joined(good))
            np.testing.assert_array_equal(pending.result()["y"], X * 2)


class TestTime:
    @pytest.fixture(autouse=True)
    def _no_grace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edged.protocol.asking.GRACE_S", 0.0)

    def test_no_answer_in_time(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l", timeout=0.05) as client:
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError, match="no answer came in time"):
                client.infer("m", x=X)
            assert 0.04 < time.monotonic() - started < 5

    def test_a_daemon_that_does_not_read_holds_nobody_for_ever(
        self, listener: Listener, tmp_path: Path
    ):
        with Client(tmp_path / "l", timeout=0.05) as client:
            with pytest.raises(DisconnectedError, match="does not read"):
                client.infer("m", x=np.zeros(16 << 20, np.uint8))
            listener.accept()
            pending = client.submit("m", x=X)
            listener.accept()
            assert not pending.is_done, "the next request has a connection of its own"

    def test_a_late_answer_is_nobodys(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l", timeout=10) as client:
            with pytest.raises(DeadlineExceededError):
                client.infer("m", x=X, timeout=0.02)
            peer = listener.accept()
            pending = client.submit("m", x=X)
            for number, factor in ((1, 5), (2, 2)):
                late = InferResponse("m", 1, 1, {"y": X * factor})
                peer.sendall(joined(native.encode_response(number, late)))
            np.testing.assert_array_equal(pending.result()["y"], X * 2)

    def test_the_timeout_is_sent(self, listener: Listener, tmp_path: Path):
        with Client(tmp_path / "l", timeout=0.02) as client:
            with pytest.raises(DeadlineExceededError):
                client.infer("m", x=X)
            data = listener.accept().recv(1 << 16)
            _hello, frame, _cancel = FrameReader(Limits()).feed(data)
            request, timeout_us = native.decode_infer(frame, Limits())
            assert isinstance(request, InferRequest)
            assert timeout_us == 20_000

    def test_a_short_deadline_behind_a_long_one(self, listener: Listener, tmp_path: Path):
        """Whoever waits reads for all; nobody waits longer for that than for its own answer."""
        with Client(tmp_path / "l", timeout=None) as client:
            slow = client.submit("m", x=X)

            def read() -> None:
                with contextlib.suppress(DisconnectedError):
                    slow.result()

            reader = threading.Thread(target=read)
            reader.start()
            eventually(client.link.read_lock.locked)
            started = time.monotonic()
            with pytest.raises(DeadlineExceededError):
                client.infer("m", x=X, timeout=0.05)
            assert time.monotonic() - started < 5
            client.close()
            reader.join(10)
            assert not reader.is_alive()

    @pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1e30])
    def test_a_timeout_that_is_none(self, house: House, client: Client, timeout: float):
        house.start()
        with pytest.raises(InvalidRequestError, match="timeout"):
            client.infer("m", x=X, timeout=timeout)
        assert client.infer("m", x=X)
