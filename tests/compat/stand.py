"""A daemon whose Open Inference Protocol the public clients talk to, with models to ask for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from edged.tensors import DTYPES
from tests.bundles import make_bundle
from tests.compat.echo import echo
from tests.e2e.process import DaemonProcess
from tests.models import classifier, remembering, same

TYPED = [name for name in DTYPES if name != "float16"]
"""What gRPC has typed contents for."""
BODY = """\
trust: {require_signatures: false}
models:
  echo: {bundle: echo-1.edgb}
  typed: {bundle: typed-1.edgb}
  sorter: {bundle: sorter-2.edgb}
  text: {bundle: text-1.edgb, cache: {size: 1MiB}}
  brain: {bundle: brain-1.edgb}
  memory: {bundle: memory-1.edgb, sequence: {state: {h: hN}}}
"""


class OipDaemon(DaemonProcess):
    """Listens for HTTP where ``place`` says, for gRPC where ``grpc`` does."""

    place = grpc = ""

    def head(self) -> str:
        shared = f"tcp_users: ['{os.getuid()}']"
        places = {"http": self.place, "grpc": self.grpc, "shared_memory": shared}
        listen = "".join(f"{name}: {{{place}}}, " for name, place in places.items() if place)
        return super().head().replace("listen: {", f"listen: {{{listen}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def serving(folder: Path, place: str = "", grpc: str = "") -> Iterator[OipDaemon]:
    """A daemon with the models; ``place`` and ``grpc`` are where it listens, as YAML."""
    make_bundle(folder / "echo-1.edgb", echo(), name="echo")
    make_bundle(folder / "typed-1.edgb", echo(TYPED), name="typed")
    make_bundle(folder / "sorter-2.edgb", classifier(), name="sorter", release=2)
    make_bundle(folder / "memory-1.edgb", remembering(), name="memory")
    make_bundle(folder / "text-1.edgb", same("string"), name="text")
    make_bundle(folder / "brain-1.edgb", same("bfloat16"), name="brain")
    daemon = OipDaemon(folder)
    daemon.place, daemon.grpc = place, grpc
    daemon.write(BODY)
    try:
        yield daemon.start()
    finally:
        daemon.stop()
