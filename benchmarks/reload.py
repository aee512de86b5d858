"""From a saved file to the first answer under it: a change between two releases that are known."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from benchmarks import figures
from benchmarks.models import Model
from benchmarks.native import script_for
from benchmarks.results import Row, measured
from benchmarks.stand import BenchError, Daemon, Stand, load_average
from benchmarks.wire import command_for, read_report
from edged.client import Client

CHANGES = 20
SETTLE = "reload: {settle: 10ms}\n"
"""A tenth of the default, which would be most of what is measured."""
LIMIT_S = 60.0
EVERY_S = 0.001


def reload(stand: Stand) -> list[Row]:
    """Alone, and beside four connections without a pause."""
    model = stand.tiny(2)
    with stand.daemon(_body(model, 1)) as daemon, daemon.client() as client:
        for release in (2, 1):  # so that both are stored, proven and measured
            _change(daemon, client, model, release)
        alone = _changes(stand, daemon, client, model)
        load: dict[str, Any] = {"load_average": load_average()}
        script = script_for(daemon, model, check=False)
        command = command_for(
            stand, daemon.socket, script, seconds=LIMIT_S / stand.scale, connections=4
        )
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as generator:  # fmt: skip
            try:
                time.sleep(0.5)
                beside = _changes(stand, daemon, client, model)
                if generator.poll() is not None:
                    out, err = generator.communicate()
                    read_report(generator.returncode, out, err)  # says what was wrong
                    raise BenchError("the load ended before the changes did")
            finally:
                generator.kill()
    return [
        measured("reload", figures.median(alone), "ms", "<= 100", {"ms": alone} | load),
        measured("reload-load", figures.median(beside), "ms", "<= 300", {"ms": beside} | load),
    ]


def _body(model: Model, release: int) -> str:
    bundle = model.bundles[release]
    return f"{SETTLE}runtime: {{threads: 1}}\nmodels: {{{model.name}: {{bundle: {bundle}}}}}\n"


def _changes(stand: Stand, daemon: Daemon, client: Client, model: Model) -> list[float]:
    count = max(4, int(CHANGES * stand.scale))
    return [_change(daemon, client, model, 2 - number % 2) for number in range(count)]


def _change(daemon: Daemon, client: Client, model: Model, release: int) -> float:
    """Milliseconds from the rename of the file until the new release answers."""
    head, _, _ = daemon.config.read_text().partition(SETTLE)
    fresh = daemon.config.with_suffix(".new")
    fresh.write_text(head + _body(model, release))
    inputs = model.request(0)
    began = time.monotonic()
    fresh.rename(daemon.config)
    while client.infer(model.name, inputs).release != release:
        if time.monotonic() > began + LIMIT_S:
            raise BenchError(f"release {release} did not come:\n{daemon.tail()}")
        time.sleep(EVERY_S)
    taken_ms = (time.monotonic() - began) * 1000
    _until_noted(daemon, client)
    return taken_ms


def _until_noted(daemon: Daemon, client: Client) -> None:
    """Wait until the daemon is done with it, so that the next change does not wait for this one."""
    until = time.monotonic() + LIMIT_S
    while sum(one["state"] != "unloaded" for one in client.status()["releases"]) != 1:
        if time.monotonic() > until:
            raise BenchError(f"the old release stays:\n{daemon.tail()}")
        time.sleep(0.02)
    time.sleep(0.2)  # what serves is noted on disk meanwhile
