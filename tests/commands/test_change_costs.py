"""What ``edged diff`` says a change costs: loads, memory, subscriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.commands.change_costs import format_costs
from edged.config.load import load
from edged.generation.entries import Entry
from edged.generation.history import History
from edged.store.bundle import bundle_digest, read_manifest
from edged.store.footprints import Footprints
from tests.fakes.site import Site
from tests.models import double

MQTT = "mqtt: {host: localhost}\n"
BINDING = "bindings:\n  - {name: one, from: '%s', to: out, model: m}\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    for release in (1, 2):
        made.bundle("m", release)
    return made


def costs(site: Site, before: str, after: str) -> list[str]:
    site.write(before)
    applied = load(site.config)
    site.write(after)
    return format_costs(applied, load(site.config), site.state, site.state / "history")


def models(which: str, more: str = "") -> str:
    return f"models:\n  m: {{bundle: {which}{more}}}\n"


def digest(site: Site, release: int) -> str:
    return bundle_digest(read_manifest(site.config.parent / f"m-{release}.edgb")[0])


def test_what_is_not_loaded_anew_costs_nothing(site: Site) -> None:
    assert costs(site, models("m-1.edgb"), models("m-1.edgb", ", aliases: {live: 1}")) == []


def test_a_release_for_another(site: Site) -> None:
    first, second, memory = costs(site, models("m-1.edgb"), models("m-2.edgb"))
    assert first == "loads m release 2 (0.0 MB, by its files)"
    assert second == "ends m release 1 (0.0 MB, by its files)"
    assert memory.startswith("memory: +0.0 MB until what ends is unloaded")


def test_other_tensors_are_told(site: Site) -> None:
    """They are no fault, but whoever asks has to ask in another way."""
    site.bundle("m", 3, double(width=3))
    *_, told, _ = costs(site, models("m-1.edgb"), models("m-3.edgb"))
    assert told.startswith("m release 3 takes and gives other tensors than what serves: x float32[")
    assert "; it was x float32[" in told


def test_what_was_loaded_here_before_is_told_as_measured(site: Site) -> None:
    kept = Footprints(site.state / "footprints")
    site.state.mkdir(exist_ok=True)
    kept.note(digest(site, 1), "onnx", (9_000_000, 3_000_000, 1))
    kept.note(digest(site, 2), "other", (30_000_000, 20_000_000, 1))
    kept.note(digest(site, 2), "onnx", (12_000_000, 8_000_000, 1))
    assert costs(site, models("m-1.edgb"), models("m-2.edgb")) == [
        "loads m release 2 (8.0 MB)",
        "ends m release 1 (3.0 MB)",
        "memory: +8.0 MB until what ends is unloaded, +5.0 MB after",
    ]


def test_an_option_that_needs_another_session_is_a_load(site: Site) -> None:
    lines = costs(site, models("m-1.edgb"), models("m-1.edgb", ", isolation: model"))
    assert [line.split(" (")[0] for line in lines[:2]] == ["loads m release 1", "ends m release 1"]


def test_subscriptions(site: Site) -> None:
    before, after = (
        MQTT + models("m-1.edgb") + BINDING % where for where in ("in/{id}", "other/#")
    )
    assert costs(site, before, after) == ["subscribes to other/#", "unsubscribes from in/{id}"]


def test_a_bundle_that_came_under_the_same_pattern_is_a_load(site: Site) -> None:
    """Nothing of the configuration differs; what serves is what its generation says."""
    site.write(models("m-*.edgb"))
    snapshot = load(site.config)
    entry = Entry(1, "d", 1.0, releases={"m": [digest(site, 1)]})
    site.state.mkdir(exist_ok=True)
    History(site.state / "history").add(snapshot, entry)
    lines = format_costs(snapshot, snapshot, site.state, site.state / "history")
    assert lines[0] == "loads m release 2 (0.0 MB, by its files)"


def test_a_bundle_that_cannot_be_read_is_the_reloads_to_refuse(site: Site) -> None:
    (site.config.parent / "m-3.edgb").write_bytes(b"no zip")
    assert costs(site, models("m-1.edgb"), models("'m-[13].edgb'")) == []
