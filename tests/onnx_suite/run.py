"""All cases of ``passes.txt`` through a daemon, by every way there is; ``make onnx-suite``.

Ends with status 1 when an answer is not bit for bit that of ONNX Runtime alone, or when a case is
neither asked nor listed in ``not_served.txt``.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.e2e.process import wait_for
from tests.onnx_suite import freeze, holding
from tests.onnx_suite.asking import WAYS
from tests.onnx_suite.cases import by_name
from tests.onnx_suite.packing import Packed, pack

START_S = 1800.0


def main(arguments: list[str]) -> int:
    """Ask, and print what differs and what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", action="append", choices=sorted(WAYS))
    parser.add_argument("--every", type=int, default=1, help="only each so many-th case")
    parser.add_argument("--only", default="", help="only cases whose name has this word in it")
    parser.add_argument("--budget", default="256MiB", help="memory of the models together")
    parser.add_argument("--no-trial", action="store_true", help="load without a trial before")
    parser.add_argument("--isolation", default="none", choices=("none", "device", "model"))
    options = parser.parse_args(arguments)
    if freeze.versions() != freeze.frozen_versions():
        print(f"frozen with {freeze.frozen_versions()}\nthis is     {freeze.versions()}")
    cases = packed(options.every, options.only)
    print(f"{len(cases)} cases, {len(freeze.not_served())} of the list not served")
    print(f"with tensors of {_by_type(cases)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="edged-") as folder:
        began = time.monotonic()
        with holding.serving(
            Path(folder),
            cases,
            options.budget,
            trial=not options.no_trial,
            isolation=options.isolation,
        ) as daemon:
            wait_for(daemon.is_up, START_S, 0.1)
            print(f"ready in {time.monotonic() - began:.0f} s")
            wrong = _hold(daemon, cases, options.way or list(WAYS))
            assert daemon.process is not None
            status = Path(f"/proc/{daemon.process.pid}/status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0]) >> 10
            loads = sum(one["memory"]["loads"] for one in daemon.status()["releases"])
            fds = psutil.Process(daemon.process.pid).num_fds()
            print(f"{loads} loads; at most {peak} MiB resident, {fds} descriptors at the end")
    return 1 if wrong else 0


def packed(every: int, word: str = "") -> list[Packed]:
    """Each so many-th case of the list, as a bundle; what is not served left out."""
    known, left_out = by_name(), freeze.not_served()
    names = [name for name in freeze.read()[::every] if name not in left_out and word in name]
    return [pack(known[name]) for name in names]


def _hold(daemon: holding.OipDaemon, cases: list[Packed], ways: list[str]) -> int:
    began, wrong = time.monotonic(), collections.Counter[str]()
    for difference in holding.differences(daemon, cases, ways):
        wrong[difference.way] += 1
        print(f"  {difference}", flush=True)
    for way in ways:
        print(f"{way}: {len(cases) - wrong[way]} of {len(cases)} bit for bit")
    print(f"asked in {time.monotonic() - began:.0f} s")
    return wrong.total()


def _by_type(cases: list[Packed]) -> str:
    """How many take or give each type."""
    count = collections.Counter[str]()
    for packed in cases:
        count.update({one.dtype for one in (*packed.manifest.inputs, *packed.manifest.outputs)})
    return ", ".join(f"{number} {dtype}" for dtype, number in count.most_common())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
