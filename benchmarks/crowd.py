"""What a neighbour notices of clients that are killed in mid-request by the thousand."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import figures, web
from benchmarks.native import config, cpu_seconds, script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Stand, load_average
from benchmarks.wire import run_load

ROUNDS = 5
ROUND_S = 4.0
RATE = 200.0
"""Requests a second of the neighbour, at times that know of no other."""
BARS = {"neighbour-native": "<= 2", "neighbour-http": "<= 2"}
PROGRAM = Path(__file__).with_name("killers.py")


def neighbours(stand: Stand) -> list[Row]:
    """p99 of a neighbour beside killed clients of the daemon ÷ beside ones of another process.

    Forking and killing take a core, whoever is asked: what is compared is the daemon that has to
    deal with them with the daemon that has not.
    """
    model = stand.tiny()
    rows = []
    with stand.daemon(config(model), has_http=True) as daemon:
        script, files = script_for(daemon, model), web.files_for(daemon.folder, model)
        native = daemon.folder / "native.request"
        native.write_bytes(script.setup.read_bytes() + script.requests.read_bytes()[:4096])
        decoy = daemon.folder / "decoy"
        with _running("listen", decoy):
            for name, place, said in zip(
                BARS, (daemon.socket, daemon.http), (native, files[0]), strict=True
            ):
                found: dict[str, Any] = {
                    key: []
                    for key in (
                        "alone_p99_us", "decoy_p99_us", "p99_us", "decoy_p50_us", "p50_us",
                        "killed", "killed_decoy", "cpu_s", "decoy_cpu_s",
                    )
                }  # fmt: skip
                for seed in range(ROUNDS):
                    options = {"seconds": ROUND_S, "rate": RATE, "seed": seed}
                    alone = run_load(stand, daemon.socket, script, **options)
                    found["alone_p99_us"].append(alone["p99_us"])
                    for where, key, count in (
                        (decoy, "decoy_", "killed_decoy"), (place, "", "killed"),
                    ):  # fmt: skip
                        before = cpu_seconds(daemon.pid)
                        with _attacking(where, said, found[count]):
                            report = run_load(stand, daemon.socket, script, **options)
                        found[key + "cpu_s"].append(cpu_seconds(daemon.pid) - before)
                        for figure in ("p50_us", "p99_us"):
                            found[key + figure].append(report[figure])
                if not min(found["killed"]):
                    raise BenchError("nobody was killed")
                ratio = figures.paired_ratio(found["p99_us"], found["decoy_p99_us"])
                details = found | {"load_average": load_average()}
                rows.append(measured(name, ratio, "x", BARS[name], details))
    return rows


@contextlib.contextmanager
def _running(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-S", str(PROGRAM), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise BenchError(f"{PROGRAM.name} {words[0]} did not start")
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def _attacking(place: Path, said: Path, killed: list[int]) -> Iterator[None]:
    """Meanwhile clients of a place are killed; how many is added to ``killed``."""
    with _running("attack", place, said) as child:
        yield
        child.terminate()
        assert child.stdout is not None
        killed.append(int(child.stdout.readline()))
