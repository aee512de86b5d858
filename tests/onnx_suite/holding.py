"""A daemon with many cases as its models, and its answers held against ONNX Runtime's own.

The models share a budget: they are loaded when they are asked for, and leave again for others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edged.tensors import describe
from tests.compat.stand import OipDaemon
from tests.onnx_suite.asking import WAYS, Ask
from tests.onnx_suite.packing import Packed, write
from tests.onnx_suite.raw import same

BODY = """\
trust: {require_signatures: false}
runtime: {threads: 1}
memory: {budget: BUDGET}
TRIALmodels:
"""


class Difference(NamedTuple):
    """What a daemon answered otherwise, or did not answer."""

    way: str
    case: str
    words: str

    def __str__(self) -> str:
        return f"{self.way} {self.case}: {self.words}"


@contextlib.contextmanager
def serving(
    folder: Path,
    cases: Iterable[Packed],
    budget: str = "256MiB",
    *,
    trial: bool = True,
    isolation: str = "none",
) -> Iterator[OipDaemon]:
    """A daemon that serves these cases over its own socket, HTTP and gRPC.

    Args:
        folder: its own; the bundles are made there.
        cases: its models.
        budget: memory that they share.
        trial: whether each is proven in a process of its own first.
        isolation: of each model, as the configuration has it.
    """
    bundles = folder / "bundles"
    bundles.mkdir()
    settings = f"memory: {{load: lazy}}, isolation: {isolation}"
    lines = [
        f'  "{packed.model}": {{bundle: "{write(packed, bundles)}", {settings}}}\n'
        for packed in cases
    ]
    head = BODY.replace("BUDGET", budget).replace(
        "TRIAL", "" if trial else "trial: {enabled: false}\n"
    )
    daemon = OipDaemon(folder)
    daemon.place, daemon.grpc = f"path: {folder}/http.sock", f"path: {folder}/grpc.sock"
    daemon.write(head + "".join(lines))
    try:
        yield daemon.start(wait=False)
    finally:
        daemon.stop()


def place(daemon: OipDaemon, way: str) -> Path:
    """The socket that one way asks at."""
    return daemon.socket if way == "native" else daemon.directory / f"{way}.sock"


def differences(
    daemon: OipDaemon, cases: Sequence[Packed], ways: Iterable[str] = tuple(WAYS)
) -> Iterator[Difference]:
    """Ask for each case once by each way, and say what is not bit for bit ONNX Runtime's own answer.

    All ask for one case before the next, so that it is loaded once for all. Who asks first waits for
    that load: each way in its turn.
    """
    with contextlib.ExitStack() as stack:
        asks = [(way, stack.enter_context(WAYS[way](place(daemon, way)))) for way in ways]
        for packed in cases:
            for way, ask in asks:
                if words := _difference(ask, packed):
                    yield Difference(way, packed.case.name, words)
            asks.append(asks.pop(0))


def _difference(ask: Ask, packed: Packed) -> str:
    for inputs, expected in packed.data:
        try:
            found = ask(packed, inputs)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        if not any(all(map(same, found, one)) for one in expected):
            outputs = zip(packed.manifest.outputs, found, expected[0], strict=True)
            words = [
                f"{entry.name} {describe(one)} is not {describe(other)}"
                for entry, one, other in outputs
                if not same(one, other)
            ]
            return "; ".join(words)
    return ""
