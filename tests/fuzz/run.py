"""Fuzz the parsers: ``python -m tests.fuzz.run [--seconds 600] [--target NAME] [--engine auto]``.

Each target runs for so long in a process of its own: under atheris (coverage-guided), where it is
installed, else by the mutation loop beside this file. Seeds are made anew; what atheris learns is
kept in ``.fuzz/TARGET/corpus`` for the next time, and an input that broke something in
``.fuzz/TARGET/findings``. Exits with 1 when there is any.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

FOLDER = Path(".fuzz")
SLOW_S = 10
"""An input that takes longer is a finding; none takes a tenth of it on a slow machine."""
MEMORY_MIB = 1024
"""All of a target with its libraries takes some 200 MiB."""


def main() -> int:
    """Run every target that was asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--target", default="", help="names with commas between; default all")
    parser.add_argument("--engine", choices=["auto", "atheris", "mutate"], default="auto")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    engine = arguments.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "mutate"
    if arguments.only:
        run_here(arguments.only, engine, arguments.seconds)
        return 0
    names = [name for name in arguments.target.split(",") if name] or target_names()
    print(f"engine {engine}, {arguments.seconds:g} s for each of: {', '.join(names)}", flush=True)
    findings = sum(not run_in_process(name, engine, arguments.seconds) for name in names)
    print(f"{len(names)} targets, {findings} with findings")
    return 1 if findings else 0


# The targets are imported inside functions: atheris instruments what is imported under its eyes.


def target_names() -> list[str]:
    """All of them, in the order of the table."""
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def run_in_process(name: str, engine: str, seconds: float) -> bool:
    """Run one target; prints a line and, when it found something, the end of what it said."""
    folder = FOLDER / name
    for part in ("seeds", "corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    known = set((folder / "findings").iterdir())
    command = [sys.executable, "-m", "tests.fuzz.run", "--only", name]
    command += ["--engine", engine, "--seconds", str(seconds)]
    began = time.monotonic()
    log = folder / "log"
    with log.open("wb") as out:
        status = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
    text = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units:\s*(\d+)", text)
    slowest = re.search(r"slowest_unit_time_sec:\s*([\d.]+)", text)
    branches = re.findall(r"cov: (\d+)", text)
    found = sorted(set((folder / "findings").iterdir()) - known)
    is_good = status == 0 and not found
    print(
        f"{name}: {runs[1] if runs else '?'} runs in {time.monotonic() - began:.0f} s, slowest "
        f"{slowest[1] if slowest else '?'} s, {branches[-1] if branches else 'unknown'} branches, "
        f"{'nothing found' if is_good else 'FOUND'}" + "".join(f" {path}" for path in found),
        flush=True,
    )
    if not is_good:
        print("\n".join(text.splitlines()[-30:]), flush=True)
    return is_good


def run_here(name: str, engine: str, seconds: float) -> None:
    """Run one target in this process, which ends with it."""
    if engine == "atheris":
        _run_atheris(name, seconds)
        return
    from tests.fuzz.mutate import hunt
    from tests.fuzz.targets import TARGETS

    # Another seed each time: repeating is what the core tests do.
    outcome = hunt(TARGETS[name], seed=time.time_ns(), seconds=seconds)
    print(f"stat::number_of_executed_units: {outcome.runs}")
    print(f"stat::slowest_unit_time_sec: {outcome.slowest_s:.3f}")
    if outcome.finding is not None:
        data, error = outcome.finding
        path = FOLDER / name / "findings" / f"mutation-{time.time_ns()}"
        path.write_bytes(data)
        traceback.print_exception(error)
        sys.exit(1)


def _run_atheris(name: str, seconds: float) -> None:
    import atheris

    # Only our own modules: guiding by the branches of NumPy and Pillow would take all its time.
    with atheris.instrument_imports(include=["edged"], enable_loader_override=False):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    folder = FOLDER / name
    for number, seed in enumerate(target.seeds()):
        (folder / "seeds" / f"{number:02d}").write_bytes(seed)
    options = {
        "max_total_time": max(1, int(seconds)),
        "max_len": target.max_bytes,
        "timeout": SLOW_S,
        "rss_limit_mb": MEMORY_MIB,
        "print_final_stats": 1,
        "verbosity": 1,
        "artifact_prefix": f"{folder}/findings/",
    }
    flags = [f"-{key}={value}" for key, value in options.items()]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), str(folder / "seeds"), *flags], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
