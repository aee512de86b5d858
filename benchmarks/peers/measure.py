"""Everybody in turns: what is measured of each side, round after round."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import raw, web
from benchmarks.idle import memory_mb
from benchmarks.models import Model
from benchmarks.native import config
from benchmarks.peers import asking, catalogue
from benchmarks.peers.environment import Environment
from benchmarks.peers.server import Server, exchange, free_ports
from benchmarks.stand import BenchError, Daemon, Stand
from edged.messages import InferResponse
from edged.protocol.oip_grpc import encode_infer
from edged.protocol.oip_request import Asked

CONNECTIONS = (1, 16)
ROUNDS, ROUND_S, ASK_S = 5, 1.0, 60.0
CLIENT_FLOOR, FLOOR_AWAKE_US = "grpc-client-floor", 500
Found = dict[str, dict[str, list[float]]]
"""By side and ways, ``http-16``: what each round found, by the generator's own names."""


@dataclass
class Side:
    """Somebody who is asked.

    Args:
        name: in rows.
        ways: what to call with a number of connections, by ``http`` and ``grpc``.
        server: to be woken before and rested after; None for our own daemon, which is idle then.
        facts: seconds to ready, resident memory, versions, settings.
        problems: why a way is not there, or did not hold; by way.
    """

    name: str
    ways: dict[str, Callable[[int], dict[str, Any]]]
    server: Server | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """The same for everybody.

    Args:
        stand: the generator and the folder.
        model: asked.
        client: the environment of the gRPC client.
        row: float32[1, 4].
        values: what ONNX Runtime alone answers.
        seconds: of one measurement.
    """

    stand: Stand
    model: Model
    client: Environment
    row: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    seconds: float

    def over_http(self, name: str, place: int | Path, request: bytes, wanted: bytes) -> Any:
        """A way that asks with the load generator."""
        files = (self.stand.folder / f"{name}.request", self.stand.folder / f"{name}.wanted")
        files[0].write_bytes(request)
        files[1].write_bytes(wanted)
        return lambda count: web.ask(self.stand, place, files, self.seconds, count)

    def over_grpc(self, place: str) -> Any:
        """A way that asks with Triton's public client."""
        files = (self.stand.folder / "row", self.stand.folder / "values")
        files[0].write_bytes(self.row.tobytes())
        files[1].write_bytes(self.values.tobytes())
        program = catalogue.PROGRAMS / "grpc_ask.py"
        command = [self.client.python, program, place, *files, str(self.seconds)]
        return lambda count: _report([*map(str, command), str(count)])


def question(stand: Stand, model: Model, client: Environment) -> Question:
    """The first row of a model, and the right answer to it."""
    (row,) = model.request(0).values()
    session = raw.open_session(model.onnx, 1)
    (values,) = session.run([asking.OUTPUT], {asking.INPUT: row})
    return Question(stand, model, client, row, values, ROUND_S * stand.scale)


def _report(command: Sequence[str]) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BenchError(f"the gRPC client: {exc}") from exc
    if done.returncode:
        raise BenchError(f"the gRPC client: {done.stderr.strip()[-300:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@contextlib.contextmanager
def ours(asked: Question) -> Iterator[list[Side]]:
    """Our daemon, on a Unix socket and on ports as the peers are."""
    body, name = config(asked.model), "edged"
    http, grpc, alone = free_ports(3)
    with (
        asked.stand.daemon(body, has_http=True) as socket,
        asked.stand.prepared(body, ports={"http": alone}) as port,
        asked.stand.prepared(body, ports={"http": http, "grpc": grpc}) as both,
    ):
        port.start()  # the release becomes known: stored, proven, remembered
        port.stop()
        ready = port.start()
        sides = [
            _ours(f"{name}-socket", socket.http, asking.OIP_BINARY, asked, socket),
            _ours(name, alone, asking.OIP_BINARY, asked, port),
            _ours(f"{name}-json", alone, asking.OIP_JSON, asked, port),
        ]
        try:
            both.start()
            sides[1].ways["grpc"] = asked.over_grpc(f"127.0.0.1:{grpc}")
            sides[1].ways["grpc"](1)
        except BenchError as exc:
            sides[1].ways.pop("grpc", None)
            sides[1].problems["grpc"] = str(exc)
        yield sides
        for side, daemon in zip(sides, (socket, port, port), strict=True):
            side.facts |= {"ready_s": ready, "memory_mb": memory_mb(daemon)["rss"]}
        if "grpc" in sides[1].ways:
            sides[1].facts["memory_grpc_mb"] = memory_mb(both)["rss"]


def _ours(name: str, place: Path | int, form: asking.Form, asked: Question, daemon: Daemon) -> Side:
    daemon.wait_until_served(asking.MODEL)
    request = asking.request(form, asked.row)
    status, body = exchange(place if isinstance(place, int) else str(place), request)
    if status != 200:
        raise BenchError(f"{name}: status {status}: {body[:200]!r}")
    way = asked.over_http(name, place, request, asking.wanted(body, asked.values))
    return Side(name, {"http": way})


def of_the_client(asked: Question) -> Side:
    """What the gRPC client takes by itself: everything is answered at once, with the same bytes."""
    side = Side(CLIENT_FLOOR, {}, facts={"settings": "reads nothing, runs nothing, sleeps late"})
    answer = InferResponse(asked.model.name, 1, 0, {asking.OUTPUT: asked.values})
    made = encode_infer(Asked("", {}, (), is_binary=True), answer, {})
    message = asked.stand.folder / "answer"
    message.write_bytes(b"".join(map(bytes, made)))
    (port,) = free_ports(1)
    program = asked.stand.load.with_name("grpc_client_floor")
    command = [program, str(port), message, str(FLOOR_AWAKE_US)]
    side.server = Server(CLIENT_FLOOR, command, asked.stand.folder / CLIENT_FLOOR, {})
    try:
        side.facts["ready_s"] = side.server.wait_for_port(port)
        side.ways["grpc"] = asked.over_grpc(f"127.0.0.1:{port}")
    except BenchError as exc:
        side.problems["grpc"] = str(exc)
    side.server.rest()
    return side


def begin(peer: catalogue.Peer, asked: Question, release: str) -> Side:
    """A peer that answers rightly and then rests; or one that says why it does not."""
    side = Side(peer.name, {}, facts={"settings": peer.settings})
    tries = 2  # another process may have taken a port that was free
    for attempt in range(tries):
        try:
            environment = peer.home(release)
            environment.make()
            side.facts["versions"] = environment.versions()
            _begin(peer, asked, environment, side, attempt)
            return side
        except BenchError as exc:
            side.problems = dict.fromkeys(_ways(peer), str(exc))
            if "not installed" in str(exc):
                break
    return side


def _ways(peer: catalogue.Peer) -> list[str]:
    return [*(["http"] if peer.form else []), *(["grpc"] if peer.has_grpc else [])]


def _begin(
    peer: catalogue.Peer, asked: Question, environment: Environment, side: Side, attempt: int
) -> None:
    ports = free_ports(3)
    folder = asked.stand.folder / f"{peer.name}-{attempt}"
    server = catalogue.start(peer, environment, asked.model.onnx, folder, ports)
    try:
        if peer.form is None:
            side.facts["ready_s"] = server.wait_for_port(ports[1])
        else:
            request = asking.request(peer.form, asked.row)
            side.facts["ready_s"], wanted = server.wait(ports[0], request, asked.values)
            side.ways["http"] = asked.over_http(peer.name, ports[0], request, wanted)
        if peer.has_grpc:
            side.ways["grpc"] = asked.over_grpc(f"127.0.0.1:{ports[1]}")
        server.rest()
    except BaseException:
        server.end()
        raise
    side.server = server


def in_turns(sides: Sequence[Side], rounds: int = ROUNDS) -> Found:
    """Every way of every side, one after the other, in each round; one that fails is left out.

    Returns:
        What was found; the rounds of all that are in it are as many.
    """
    found: Found = {}
    for number in range(rounds):
        began = time.monotonic()
        for side in sides:
            if side.server:
                side.server.wake()
            for way in list(side.ways):
                _ask(side, way, found)
            if side.server:
                side.facts["memory_mb"] = side.server.memory_mb()
                side.facts["processes"] = side.server.processes()
                side.server.rest()
        said = f"round {number + 1} of {rounds}: {time.monotonic() - began:.0f} s"
        print(said, file=sys.stderr, flush=True)
    return found


def _once_more(way: Callable[[int], dict[str, Any]], count: int) -> dict[str, Any]:
    """Ask; and again if that failed: a peer that has rested may need a moment."""
    with contextlib.suppress(BenchError):
        return way(count)
    return way(count)


def _ask(side: Side, way: str, found: Found) -> None:
    try:
        for count in CONNECTIONS:
            report = _once_more(side.ways[way], count)
            kept = found.setdefault(f"{side.name}-{way}-{count}", {})
            for key in ("per_s", "p50_us", "p99_us"):
                kept.setdefault(key, []).append(report[key])
    except BenchError as exc:
        # A median of some rounds would be one of other hours than everybody else's.
        side.problems[way] = str(exc)
        del side.ways[way]
        for count in CONNECTIONS:
            found.pop(f"{side.name}-{way}-{count}", None)
