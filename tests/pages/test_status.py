"""What the daemon says about itself: complete, plain, and the same for every reader."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from edged.pages.status import (
    announced_models,
    is_ready,
    models_document,
    release_document,
    reload_document,
    status_document,
)
from tests.e2e.models import lying
from tests.fakes.site import Site
from tests.generation.test_reload import Box, booted
from tests.models import double

BODY = (
    "models:\n  m: {bundle: 'm-*.edgb', aliases: {old: 1}}\n"
    "  bad: {bundle: bad-1.edgb, required: %s}\n"
)


_ANNOUNCED = ("release", "version", "digest", "state", "reason", "runtime")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    for release in (1, 2):
        made.bundle("m", release)
    made.bundle("bad", 1, lying(double()))
    return made


def look(site: Site, *, required: bool) -> Box:
    site.write(BODY % str(required).lower())
    seen: list[Box] = []

    async def work() -> None:
        async with booted(site) as box:
            await box.ask()
            seen.append(box)
            document = status_document(
                node="test",
                started=0.0,
                reloader=box.reloader,
                dataplane=box.dataplane,
                manager=box.manager,
                health=box.health,
                links=None,
                socket={},
            )
            assert json.loads(json.dumps(document)) == document
            assert document["ready"] is not required
            assert document["live"] is True
            assert document["generation"] == 1
            assert document["config"]["digest"] == box.reloader.digest
            assert document["config"]["applied"] is True
            part = reload_document(box.reloader, box.dataplane)
            assert part.keys() == {"pid", "generation", "config"}
            assert (part["pid"], part["generation"]) == (document["pid"], document["generation"])
            assert part["config"].keys() == document["config"].keys()
            assert part["config"]["digest"] == box.reloader.digest
            assert "golden" in document["degradations"]["model.bad"]
            by_name = {
                (line["model"], line["release"]): line["state"] for line in document["releases"]
            }
            assert by_name == {("m", 1): "ready", ("m", 2): "ready", ("bad", 1): "failed"}
            assert {line["name"]: line["serving"] for line in document["models"]} == {
                "m": 2,
                "bad": None,
            }
            models = models_document(box.dataplane)
            assert json.loads(json.dumps(models))[0]["name"] == "m"
            assert models[0]["aliases"] == {"old": 1}
            assert models[0]["inputs"][0]["name"] == "x"
            assert [line["release"] for line in models[0]["releases"]] == [1, 2]
            served = box.dataplane.table.routes["m"].releases[2]
            assert release_document(served)["requests"] == 1
            # Retained on the broker: it must not change with every request.
            (first, *_), *_ = (one["releases"] for one in announced_models(box.dataplane))
            full, *_ = models_document(box.dataplane)[0]["releases"]
            assert first == {name: full[name] for name in _ANNOUNCED}
            announced = json.dumps(announced_models(box.dataplane))
            await box.ask()
            assert json.dumps(announced_models(box.dataplane)) == announced
            assert "requests" not in announced
            box.dataplane.is_draining = True
            assert not is_ready(box.dataplane)

    asyncio.run(asyncio.wait_for(work(), 60))
    return seen[0]


@pytest.mark.parametrize("required", [True, False])
def test_ready_means_every_required_model_answers(site: Site, required: bool) -> None:
    look(site, required=required)
