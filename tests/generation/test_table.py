"""From candidates to tables: routes, what is wrong with them, and what needs a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.listen import SocketConfig
from edged.config.load import Snapshot
from edged.config.problems import Mark
from edged.config.schema import (
    Config,
    LimitsConfig,
    LogConfig,
    ModelConfig,
    ReloadConfig,
    RuntimeConfig,
)
from edged.config.schema import ListenConfig as Listen
from edged.generation.candidate import Candidate
from edged.generation.table import (
    build_route,
    build_table,
    failed_problems,
    restart_changes,
    trouble_of,
)
from edged.serving.lifecycle import State
from edged.serving.manager import Desired, Manager
from edged.serving.release import ServedRelease
from edged.serving.rollouts import Rollouts
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from edged.specs import Duration
from tests.fakes.model import FakeStored, doubler

GATE = ModelConfig(bundle="gate.edgb", aliases={"old": 1})


class Shelf:
    """Stands for the manager: releases in states of the test's choosing; nothing is loaded."""

    def __init__(self) -> None:
        self.releases: dict[object, ServedRelease] = {}
        self.workshop, self.rollouts = Workshop(Turn()), Rollouts()

    def get(self, key: object) -> ServedRelease:
        return self.releases[key]

    def put(self, item: Desired, state: State = State.READY, reason: str = "") -> Desired:
        release = ServedRelease(item.key, item.stored.manifest, item.config, 0)
        release.state, release.reason = state, reason
        self.releases[item.key] = release
        return item


def item(release: int, config: ModelConfig = GATE, name: str = "gate") -> Desired:
    return Desired(f"{release:064x}", FakeStored(doubler(name, release)), config)


def candidate(*items: Desired, **models: ModelConfig) -> Candidate:
    config = Config(models=models or {"gate": GATE})
    marks = {"models.gate.bundle": Mark("/c/edged.yaml", 7, 5)}
    return Candidate(Snapshot(config, Path("/c"), {}, marks), {"gate": items})


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def manager(shelf: Shelf) -> Manager:
    return shelf  # type: ignore[return-value]


class TestTable:
    def test_a_route_has_what_the_configuration_says(self, shelf: Shelf) -> None:
        config = ModelConfig(bundle="gate.edgb", serve=1, aliases={"old": 1}, required=False)
        items = [shelf.put(item(number, config)) for number in (1, 2)]
        route = build_route(candidate(*items, gate=config), "gate", manager(shelf))
        assert sorted(route.releases) == [1, 2]
        assert (route.serve, route.aliases, route.required) == (1, {"old": 1}, False)
        assert route.fallback is None
        assert route.default_release() is shelf.get(items[0].key)

    def test_models_without_releases_have_a_route_too(self, shelf: Shelf) -> None:
        one = shelf.put(item(1))
        table = build_table(candidate(one, gate=GATE, lost=GATE), manager(shelf), 7)
        assert (table.generation, sorted(table.routes)) == (7, ["gate", "lost"])
        assert not table.routes["lost"].is_ready

    def test_fallbacks(self, shelf: Shelf) -> None:
        wanted, last = shelf.put(item(2), State.FAILED, "broken"), shelf.put(item(1))
        table = build_table(candidate(wanted), manager(shelf), 1, {"gate": last})
        assert table.routes["gate"].default_release() is shelf.get(last.key)

    def test_manifests(self, shelf: Shelf) -> None:
        items = [shelf.put(item(1)), shelf.put(item(2)), shelf.put(item(3), State.FAILED)]
        of = build_table(candidate(*items), manager(shelf), 1).manifest
        found = {selector: of("gate", selector) for selector in (None, 1, "old", 3, 9, "new")}
        numbers = {selector: m.release if m else None for selector, m in found.items()}
        assert numbers == {None: 2, 1: 1, "old": 1, 3: None, 9: None, "new": None}
        assert of("lost", None) is None


class TestTrouble:
    def test_failed_problems_are_of_new_releases_only(self, shelf: Shelf) -> None:
        old = shelf.put(item(1), State.FAILED, "an old story")
        new = shelf.put(item(2), State.FAILED, "golden sample 3 differs")
        good = shelf.put(item(3))
        made = candidate(old, new, good)
        (problem,) = failed_problems(made, manager(shelf), {new.key, good.key})
        assert str(problem) == "/c/edged.yaml:7:5: models.gate.bundle: golden sample 3 differs"
        assert failed_problems(made, manager(shelf), set()) == ()

    @pytest.mark.parametrize(
        ("states", "broken", "fallback", "expected"),
        [
            ({1: State.READY}, "", False, ""),
            ({1: State.READY, 2: State.LOADING}, "", False, ""),
            ({}, "", False, "no release is ready"),
            ({1: State.LOADING}, "", False, "no release is ready"),
            ({1: State.FAILED}, "", False, "release 1 failed: why"),
            ({1: State.READY, 2: State.FAILED}, "", False, "release 2 failed: why"),
            ({1: State.READY}, "b.edgb: no", False, "b.edgb: no"),
            ({}, "b.edgb: no", False, "b.edgb: no"),
            ({2: State.FAILED}, "x", False, "release 2 failed: why; x"),
            (
                {2: State.FAILED},
                "",
                True,
                "release 1 (the last good one) serves; release 2 failed: why",
            ),
            ({}, "b.edgb: no", True, "release 1 (the last good one) serves; b.edgb: no"),
            (
                {2: State.LOADING},
                "",
                True,
                "release 1 (the last good one) serves; no release that is asked for is ready",
            ),
        ],
    )
    def test_one_sentence(
        self,
        shelf: Shelf,
        states: dict[int, State],
        broken: str,
        fallback: bool,
        expected: str,
    ) -> None:
        items = [
            shelf.put(item(number), state, "why" if state is State.FAILED else "")
            for number, state in states.items()
        ]
        last = shelf.put(item(1)) if fallback else None
        route = build_route(candidate(*items), "gate", manager(shelf), last)
        assert trouble_of(route, broken) == expected


class TestRestart:
    def test_what_exists_once_in_a_process(self) -> None:
        changed = Config(
            state_dir="/elsewhere",
            runtime=RuntimeConfig(threads=3),
            limits=LimitsConfig(inline_threshold=Duration(1)),
            reload=ReloadConfig(watch=False, settle=Duration(1), poll=Duration(1)),
        )
        assert restart_changes(Config(), changed) == [
            "state_dir",
            "runtime.threads",
            "limits.inline_threshold",
            "reload.watch",
            "reload.settle",
            "reload.poll",
        ]

    def test_everything_else_takes_effect_at_once(self) -> None:
        changed = Config(
            node="other",
            log=LogConfig(level="debug"),
            listen=Listen(socket=SocketConfig(path="/x")),
            models={"gate": GATE},
            limits=LimitsConfig(max_in_flight=1),
        )
        assert restart_changes(Config(), changed) == []
        assert restart_changes(changed, changed) == []
