"""``make bench-peers``: other inference servers beside edged, asked in the same way.

    python -m benchmarks.peers.run [--only NAME ...] [--install] [--scale X] [--redraw]

Writes ``results-peers.json``, ``peers.json`` and ``docs/peers.svg``, and prints the table. Each
peer has an environment of its own below ``.venv-peers``, or below ``$EDGED_PEERS``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.peers import catalogue, measure, picture, report
from benchmarks.peers.environment import home
from benchmarks.stand import ROOT, BenchError, Stand, load_average, machine

DATA, PICTURE = ROOT / "benchmarks/peers.json", ROOT / "docs/peers.svg"
RESULTS = ROOT / "benchmarks/results-peers.json"
TITLE = "One small network, one row a request: edged and other servers on the same machine"
ALL = (*catalogue.PEERS, catalogue.FLOOR)


def install(peers: Sequence[catalogue.Peer], release: str) -> None:
    """Make every environment that is not there; one that fails is told of when it is started."""
    for peer in peers:
        began = time.monotonic()
        try:
            environment = peer.home(release)
            environment.make()
            what = environment.versions()
        except BenchError as exc:
            what = str(exc)
        print(f"{peer.name}: {what} ({time.monotonic() - began:.0f} s)", flush=True)


def measured(
    stand: Stand, peers: Sequence[catalogue.Peer], release: str
) -> tuple[list[results.Row], dict[str, Any]]:
    """Everybody in turns: rows, and the document of the picture."""
    asked = measure.question(stand, stand.tiny(), catalogue.FLOOR.home(release))
    sides: list[measure.Side] = []
    with contextlib.ExitStack() as stack:
        for peer in peers:
            side = measure.begin(peer, asked, release)
            if side.server:
                stack.callback(side.server.end)
            for way, why in side.problems.items():
                print(f"{peer.name}, {way}: {why}", file=sys.stderr, flush=True)
            sides.append(side)
        floor = measure.of_the_client(asked)
        assert floor.server is not None
        stack.callback(floor.server.end)
        sides = [*stack.enter_context(measure.ours(asked)), floor, *sides]
        about = machine()
        found = measure.in_turns(sides)
        about["load_after"] = load_average()
        stack.close()
    return report.rows(sides, found), report.document(sides, found, about)


def main() -> int:
    """Install, measure, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [peer.name for peer in ALL]
    parser.add_argument("--only", nargs="*", default=names, choices=names, metavar="NAME")
    parser.add_argument("--install", action="store_true", help="only make the environments")
    parser.add_argument("--scale", type=float, default=1.0, help="of all durations")
    parser.add_argument("--load", type=Path, default=ROOT / "build/load")
    parser.add_argument("--redraw", action="store_true", help="measure nothing, only draw")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs")
    arguments = parser.parse_args()
    if arguments.redraw:
        document = json.loads(DATA.read_text())
        PICTURE.write_text(picture.draw(document, TITLE))
        print(report.markdown(document))
        return 0
    release = version("onnxruntime")
    peers = [peer for peer in ALL if peer.name in arguments.only]
    print(f"environments: {home()}", flush=True)
    install(peers, release)
    if arguments.install:
        return 0
    folder = Path(tempfile.mkdtemp(prefix="edged-peers-"))
    try:
        rows, document = measured(Stand(folder, arguments.load, arguments.scale), peers, release)
    finally:
        if arguments.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    results.write(RESULTS, rows)
    if len(peers) == len(ALL):
        DATA.write_text(json.dumps(document, indent=1) + "\n")
        PICTURE.write_text(picture.draw(document, TITLE))
    print(f"{document['machine']}\n\n{results.table(rows)}\n\n{report.markdown(document)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
