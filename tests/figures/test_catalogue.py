"""Every figure is where the catalogue says, reads what was counted, and no peer can add a series."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edged.figures import catalogue
from edged.figures.catalogue import FIGURES, collect, names
from edged.generation.reload_tally import ReloadTally
from edged.messages import InferRequest
from edged.outbox.tally import Tally
from edged.pages.hosted import HostedWorker
from edged.runtimes.placed import Placed
from edged.serving.choosing.preference import StandIn
from edged.telemetry.exposition import CELLS, Kind, Times, render
from edged.transports.bindings.counters import BindingCounters, SessionCounters
from tests.bundles import make_bundle
from tests.e2e.models import lying
from tests.e2e.process import running
from tests.fakes.site import Site
from tests.figures.test_rollouts import ONE
from tests.figures.test_supply import SUPPLY
from tests.generation.test_reload import Box, booted
from tests.models import double, remembering

LINKS = {
    "state": "connected",
    "connections": 2,
    "waiting": 3,
    "places": 64,
    "oldest_unacked_s": 1.5,
    "times_back": 4,
    "unsent": 0,
    "sessions": {"bulk": {"state": "connected"}},
    "questions": {"answered": 5, "refused": 6, "dropped": 7},
    **asdict(SessionCounters(unmatched=1, acknowledged=9, published=12)),
    "bindings": {"gate": BindingCounters(received=10, answered=8, dead_lettered=1).as_dict()},
    "feeds": {"gate": {"published": 1}},
    "states": {"gate": dict.fromkeys(("keys", "bytes", "evicted", "broken", "stale"), 1)},
    "results": {
        "state": "connected",
        "on_way": 1,
        "outbox": dict.fromkeys(("entries", "bytes", "max_bytes", "oldest_s", "waiting"), 1)
        | Tally().as_dict(),
    },
}
PIPELINE = """\
pipelines:
  p:
    inputs: {x: "float32[batch,4]"}
    steps:
    - {name: a, model: m, inputs: x}
    - {name: b, each: {from: a}}
    - {name: c, gather: {from: b}}
    outputs: {y: c}
    stream: [y]
    cache: {size: 1MiB}
"""
X = np.ones((1, 4), np.float32)
LISTENER = SimpleNamespace(
    connections={"one"}, accepted=2, refused=3, received_bytes=40, sent_bytes=50
)


ENGINES = (
    ("edged_engine_builds", 1.0, ("building",)),
    ("edged_engine_builds_ended", 2.0, ("failed",)),
    ("edged_engine_cache_refused", 3.0, ("seal",)),
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.bundle("m", 1)
    made.bundle("bad", 1, lying(double()))
    return made.write("models:\n  m: {bundle: m-1.edgb}\n  bad: {bundle: bad-1.edgb}\n")


def look(box: Box, links: dict[str, Any] | None = None) -> Any:
    """Every sample, as a scraper reads it: (name, labels as a set) -> value."""
    families = collect(
        reloader=box.reloader,
        reloads=ReloadTally(),
        dataplane=box.dataplane,
        manager=box.manager,
        health=box.health,
        links=links,
        listeners={"socket": LISTENER},
        lag=Times((0,) * CELLS, 0),
        engines=ENGINES,
        denied={"rule": 2},
        supply=SUPPLY,
    )

    async def text() -> str:
        return (await render(families))[0].decode()

    return text()


def read(text: str) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (sample.name, frozenset(sample.labels.values()) - {""}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_was_done_is_what_is_shown(site: Site):
    async def work() -> None:
        async with booted(site) as box:
            for _ in range(3):
                await box.ask()
            for name in ("m", "bad", "nobody-1", "nobody-2"):
                wrong = np.ones((1, 3), np.float32)
                box.dataplane.submit(
                    InferRequest(name, {"x": wrong}, origin=f"uds:{name}"), lambda *_: None
                )
            found = read(await look(box, LINKS))
            of = frozenset({"m", "1"})
            assert found["edged_ready", frozenset()] == 0
            assert found["edged_requests_total", of | {"local"}] == 3
            assert found["edged_rows_total", of] == 3
            assert (
                found["edged_batches_total", of | {"off_loop"}] == 3
            )  # the fake house has no inline runs
            assert found["edged_request_duration_seconds_count", of] == 3
            assert found["edged_run_duration_seconds_count", of] == 3
            run_s = found["edged_run_duration_seconds_sum", of]
            assert 0 < run_s <= found["edged_request_duration_seconds_sum", of]
            assert (
                found["edged_requests_refused_total", frozenset({"m", "uds", "INVALID_ARGUMENT"})]
                == 1
            )
            assert (
                found["edged_requests_refused_total", frozenset({"bad", "uds", "UNAVAILABLE"})] == 1
            )
            assert found["edged_requests_refused_total", frozenset({"uds", "NOT_FOUND"})] == 2
            assert not [key for key in found if any("nobody" in label for label in key[1])]
            assert found["edged_release_state", of | {"ready"}] == 1
            assert found["edged_release_state", of | {"failed"}] == 0
            assert found["edged_release_state", frozenset({"bad", "1", "failed"})] == 1
            assert found["edged_release_loads_total", of] == 1
            assert found["edged_release_load_failures_total", frozenset({"bad", "1"})] == 1
            assert found["edged_model_ready", frozenset({"m", "true"})] == 1
            assert found["edged_model_ready", frozenset({"bad", "true"})] == 0
            assert found["edged_degraded", frozenset({"model.bad"})] == 1
            assert found["edged_mqtt_acknowledged_total", frozenset()] == 9
            assert found["edged_mqtt_messages_ended_total", frozenset({"gate", "answered"})] == 8
            counted = ("open", 1), ("accepted", 2), ("refused", 3), ("received_bytes", 40)
            for name, count in (*counted, ("sent_bytes", 50)):
                key = "edged_connections" + ("" if name == "open" else f"_{name}_total")
                assert found[key, frozenset({"socket"})] == count, key
            assert found["process_open_fds", frozenset()] > 3

    asyncio.run(asyncio.wait_for(work(), 60))


def test_batches_of_a_worker_are_told_apart(site: Site):
    site.write("models:\n  m: {bundle: m-1.edgb, isolation: model}\n")

    async def work() -> None:
        async with booted(site) as box:
            assert (await box.ask()).error is None
            found = read(await look(box))
            of = frozenset({"m", "1"})
            assert found["edged_batches_total", of | {"worker"}] == 1
            assert found["edged_batches_total", of | {"inline"}] == 0
            assert ("edged_batches_total", of | {"off_loop"}) not in found

    asyncio.run(asyncio.wait_for(work(), 60))


def test_each_family_of_the_catalogue_can_be_seen(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        catalogue, "workers", lambda releases: [HostedWorker(1, 10, tuple(releases)[:1])]
    )
    site.bundle("kept", 1, remembering())
    kept = "  kept: {bundle: kept-1.edgb, sequence: {state: {h: hN}}}\n"
    site.write(site.config.read_text().split("\n", 3)[3] + kept + PIPELINE)

    async def work() -> None:
        async with booted(site) as box:
            await box.ask()
            box.dataplane.submit(InferRequest("none", {}), lambda *_: None)
            release = box.dataplane.table.routes["m"].releases[1]
            from edged.errors import Code

            release.counters.failed[Code.INTERNAL] = 1
            box.manager.loader.workers.deaths["cpu"] = 1
            (stood,) = [r for r in box.manager.releases() if r.key.model == "m"]
            stood.stand_in = StandIn("openvino", "onnxruntime", (), 0.0, 0)
            stood.placed = Placed(5, {"Loop": 2})
            monkeypatch.setattr(box.manager.rollouts, "as_list", lambda: [ONE])
            recovery = box.manager.recovery
            recovery.stood_in["m", 1, "openvino", "onnxruntime"] = 1
            recovery.losses["m", 1, "openvino"] = 1
            recovery.returning.ended["m", 1, "back"] = 1
            text = await look(box, {**LINKS, "brokers": {"plant": LINKS | {"bindings": {}}}})
            shown = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
            assert shown == set(names())

    asyncio.run(asyncio.wait_for(work(), 60))


def test_a_release_that_is_there_twice_is_one_series(site: Site, monkeypatch: pytest.MonkeyPatch):
    """A change of its options loads it anew while the old one drains."""

    async def work() -> None:
        async with booted(site) as box:
            (release,) = [r for r in box.manager.releases() if r.key.model == "m"]
            await box.ask()

            monkeypatch.setattr(box.manager, "releases", lambda: [release, release])
            text = await look(box)
            lines = [line.rpartition(" ")[0] for line in text.splitlines() if line[:1] != "#"]
            assert len(lines) == len(set(lines))
            found = read(text)
            assert found["edged_requests_total", frozenset({"m", "1", "local"})] == 2
            assert found["edged_release_state", frozenset({"m", "1", "ready"})] == 1

    asyncio.run(asyncio.wait_for(work(), 60))


def test_names_are_in_base_units_and_labels_from_a_fixed_list():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        assert re.fullmatch(r"(edged|process)_[a-z_]+", figure.name), figure
        assert not re.search(r"_(ms|us|ns|mib|kib|percent)\b", figure.name), figure
        assert not figure.name.endswith(("_total", "_info"))
        assert set(figure.labels) <= {
            "model", "release", "transport", "code", "state", "binding", "tensor", "outcome", "reason", "key",
            "listener", "where", "required", "version", "python", "digest", "runtime", "step",
            "device", "priority", "wanted", "session", "phase", "broker",
        }  # fmt: skip
        assert figure.help.endswith(".")
        if figure.kind is Kind.HISTOGRAM:
            assert figure.name.endswith("_seconds")


def test_the_documentation_lists_the_same(root: Path):
    """docs/metrics.md has one row for each figure: name, labels, meaning."""
    page = (root / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z_]+)(?:\{([a-z,]+)\})?` \| ([^|]+) \|$", page, re.MULTILINE)
    assert [(name, labels) for name, labels, _ in rows] == [
        (figure.shown, ",".join(figure.labels)) for figure in FIGURES
    ]
    assert [meaning.strip() for *_, meaning in rows] == [figure.help for figure in FIGURES]


def test_over_the_socket(tmp_path: Path):
    """The daemon as a process; a reload and a refusal are seen in it."""
    make_bundle(tmp_path / "m-1.edgb", double(), name="m", release=1)
    body = "trust: {require_signatures: false}\nmodels:\n  m: {bundle: m-1.edgb}\n"
    body += "store: {max_bytes: 1MiB}\n"
    with running(tmp_path, body) as daemon, daemon.client() as client:
        client.infer("m", x=X)
        found = read(client.call("metrics"))
        assert found["edged_requests_total", frozenset({"m", "1", "uds"})] == 1
        assert found["edged_connections", frozenset({"socket"})] == 1
        assert found["edged_ready", frozenset()] == 1
        assert found["edged_generation", frozenset()] == 1
        assert found["process_start_time_seconds", frozenset()] > 1e9
        assert found["edged_store_max_bytes", frozenset()] == 1 << 20
        assert client.status()["store"]["releases"] == 1
