"""What gRPC costs on the server's side, by who carries it: nothing is served but an echo.

    python -m benchmarks.grpc_cost [SECONDS]

Each server is a process of its own on a Unix socket, with a generic handler from bytes to bytes; a
client of grpcio asks it again and again, then `h2load` of nghttp2 with 16 connections, if it is
there. The servers take turns. Shown are the client's median and the processor time that the server
spends on a call, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import uvloop

from edged.config.listen import GrpcConfig, ListenConfig
from edged.config.schema import Config, LimitsConfig
from edged.protocol.grpc_call import Reply, Shape
from edged.specs import Duration
from edged.transports.grpc.endpoint import GrpcServer

PATH = "/inference.GRPCInferenceService/ModelInfer"
PAYLOAD = bytes(100)
ROUNDS = 3


def serve_aio(address: str, ready: Any, *, fast_loop: bool) -> None:
    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    async def answer(request: bytes, _: Any) -> bytes:
        return request

    async def main() -> None:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handler(),))
        server.add_insecure_port(address)
        await server.start()
        ready.set()
        await server.wait_for_termination()

    if fast_loop:
        uvloop.run(main())
    else:
        asyncio.run(main())


def serve_sync(address: str, ready: Any, *, to_loop: bool) -> None:
    loop = uvloop.new_event_loop()

    def hop(request: bytes, _: Any) -> bytes:
        found: list[bytes] = []
        done = threading.Lock()
        done.acquire()

        def work() -> None:
            found.append(request)
            done.release()

        loop.call_soon_threadsafe(work)
        done.acquire()
        return found[0]

    def answer(request: bytes, _: Any) -> bytes:
        return request

    class Handler(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(hop if to_loop else answer)

    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(address)
    server.start()
    loop.call_soon(ready.set)
    loop.run_forever()


def serve_edged(address: str, ready: Any) -> None:
    class Echo:
        def configure(self, *_: Any) -> None: ...

        def asker(self) -> Any:
            return self

        def enter(self, _: Any) -> None: ...

        def review(self) -> None: ...

        def leave(self) -> None: ...

        def shape(self, _: str) -> Shape:
            return Shape.UNARY

        def ask(self, _: Any, message: Any, on_reply: Any) -> None:
            on_reply(Reply([message]))

        def ask_alone(self, _: Any, message: bytes) -> bytes:
            return message

        def open(self, *_: Any) -> Any:
            raise NotImplementedError

    async def main() -> None:
        server = GrpcServer(Echo())
        config = Config(
            listen=ListenConfig(grpc=GrpcConfig(path=address.removeprefix("unix:"))),
            limits=LimitsConfig(busy_wait=Duration(0)),  # what a call costs, not what waiting does
        )
        await server.commit(server.prepare(config), config)
        ready.set()
        await asyncio.Event().wait()

    uvloop.run(main())


SERVERS: dict[str, tuple[Callable[..., None], dict[str, bool]]] = {
    "grpc.aio, asyncio": (serve_aio, {"fast_loop": False}),
    "grpc.aio, uvloop": (serve_aio, {"fast_loop": True}),
    "sync, answered on its thread": (serve_sync, {"to_loop": False}),
    "sync, answered on the loop": (serve_sync, {"to_loop": True}),
    "edged": (serve_edged, {}),
}


def processor_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(address: str, pid: int, seconds: float, callers: int) -> tuple[float, float, float]:
    """Median in microseconds, calls a second, the server's microseconds of processor for each."""
    counted: list[list[int]] = [[] for _ in range(callers)]

    def call(times: list[int]) -> None:
        # A pool of its own: else channels to one address share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, options) as channel:
            ask = channel.unary_unary(PATH)
            while time.monotonic() < until:
                begin = time.perf_counter_ns()
                ask(PAYLOAD)
                times.append(time.perf_counter_ns() - begin)

    until = time.monotonic() + seconds
    before = processor_s(pid)
    threads = [threading.Thread(target=call, args=(times,)) for times in counted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = processor_s(pid) - before
    times = [one for each in counted for one in each]
    return statistics.median(times) / 1e3, len(times) / seconds, spent / len(times) * 1e6


def load(path: str, pid: int, seconds: float) -> tuple[float, float]:
    """Calls a second over 16 connections, the server's microseconds of processor for each."""
    with tempfile.NamedTemporaryFile() as body:
        body.write(len(PAYLOAD).to_bytes(5, "big") + PAYLOAD)
        body.flush()
        before = processor_s(pid)
        command = [
            "h2load", "-c16", "-m1", f"-D{max(1, round(seconds))}", f"-d{body.name}",
            "-Hcontent-type: application/grpc", "-Hte: trailers", f"-Bunix:{path}",
            f"http://localhost{PATH}",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", done.stdout)
    if found is None or found[2] != "0":
        raise SystemExit(f"h2load: {done.stdout}{done.stderr}")
    count = int(found[1])
    return count / seconds, (processor_s(pid) - before) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "seconds", type=float, nargs="?", default=3.0, help="of each server a round"
    )
    seconds = parser.parse_args().seconds
    print(f"grpcio {grpc.__version__}, Python {sys.version.split()[0]}, {ROUNDS} rounds")
    context = multiprocessing.get_context("spawn")
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        started: dict[str, tuple[str, Any]] = {}
        for number, (name, (serve, options)) in enumerate(SERVERS.items()):
            path, ready = f"{folder}/{number}", context.Event()
            server = context.Process(target=serve, args=(f"unix:{path}", ready), kwargs=options)
            server.start()
            ready.wait()
            measure(f"unix:{path}", server.pid or 0, 0.5, 1)
            started[name] = path, server
        for _ in range(ROUNDS):
            for name, (path, server) in started.items():
                pid = server.pid or 0
                for callers in (1, 4):
                    figures = measure(f"unix:{path}", pid, seconds, callers)
                    found.setdefault((name, f"{callers} grpcio"), []).append(figures)
                if shutil.which("h2load"):
                    figures = (0.0, *load(path, pid, seconds))
                    found.setdefault((name, "16 h2load"), []).append(figures)
        for _, server in started.values():
            server.kill()
            server.join()
    for (name, callers), rounds in found.items():
        median, rate, cost = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(
            f"{name:30} {callers:10} p50 {median:6.0f} us  {rate:6.0f}/s  "
            f"server {cost:5.0f} us a call"
        )


if __name__ == "__main__":
    main()
