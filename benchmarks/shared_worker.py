"""What five models take in one process of their device, and in a process each.

Run ``python -m benchmarks.shared_worker``; it prints the proportional memory (PSS) of the workers
and of the daemon, MiB. Not a row of the results: no other machine's load changes it, and
docs/memory.md tells it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.idle import family
from benchmarks.models import make_stack
from benchmarks.stand import Daemon

MODELS = 5
ISOLATIONS = ("none", "model", "device")


def config(bundles: Sequence[Path], isolation: str) -> str:
    """Models of one kind under names of their own, without trials: these measure nothing here."""
    lines = [
        f"  m{number}: {{bundle: {bundle}, isolation: {isolation}}}"
        for number, bundle in enumerate(bundles)
    ]
    head = "runtime: {threads: 1}\ntrial: {enabled: false}\nmodels:"
    return "\n".join([head, *lines, ""])


def pss_mib(pid: int) -> float:
    """Memory that a process has to itself, and its part of what several share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        bundles = []
        for number in range(MODELS):
            made = Path(folder, f"made{number}")
            made.mkdir()
            bundles.append(next(iter(make_stack(made, f"m{number}", 2).bundles.values())))
        for isolation in ISOLATIONS:
            daemon = Daemon(Path(folder, isolation), config(bundles, isolation))
            try:
                daemon.start()
                for number in range(MODELS):
                    daemon.wait_until_served(f"m{number}")
                own, *workers = family(daemon.pid)
                print(
                    f"isolation: {isolation:6}  {len(workers)} workers "
                    f"{sum(map(pss_mib, workers)):6.1f} MiB, daemon {pss_mib(own):6.1f} MiB",
                    flush=True,
                )
            finally:
                daemon.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
