"""The breaker: what the end of the last run means for what was new to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edged.breaker import Breaker
from edged.config.schema import TrialConfig
from edged.specs import Duration
from edged.store.probation import Probation
from edged.telemetry.health import Health
from tests.fakes.clock import on_loop, turns, until

DIGEST = "d" * 64


class Store:
    """A store that holds some digests."""

    def __init__(self, *digests: str) -> None:
        self._digests = digests

    def digests(self) -> list[str]:
        return list(self._digests)


@pytest.fixture
def breaker(tmp_path: Path) -> Iterator[Breaker]:
    made = Breaker(tmp_path, Health(), lambda: TrialConfig(window=Duration(1_000_000)))
    yield made
    made.stop()


def start(breaker: Breaker, *digests: str) -> None:
    store: Any = Store(*digests)
    breaker.start(store)


def ready(digest: str) -> Any:
    return SimpleNamespace(key=SimpleNamespace(digest=digest, model="m"), number=1)


@pytest.mark.parametrize("crash", ["", "Fatal Python error: Segmentation fault\nthread 1\n"])
def test_start_after(breaker: Breaker, tmp_path: Path, crash: str) -> None:
    Probation(tmp_path / "probation").begin(DIGEST, "m", 1)
    (tmp_path / "crash.txt").write_text(crash)
    start(breaker, DIGEST)
    standing = breaker.probation.get(DIGEST)
    assert standing.deaths == bool(crash)
    assert not standing.is_on_probation
    shown = breaker._health.degradations()
    assert ("Segmentation fault" in shown.get("crash", "")) == bool(crash)


def test_what_left_the_store_is_forgotten(breaker: Breaker, tmp_path: Path) -> None:
    Probation(tmp_path / "probation").note_passed(DIGEST, "m", 1, "onnxruntime 1")
    start(breaker)
    assert not breaker.probation.all()


@on_loop
async def test_off_probation_after_the_window(breaker: Breaker) -> None:
    start(breaker, DIGEST)
    breaker.probation.begin(DIGEST, "m", 1)
    breaker.on_ready(ready(DIGEST))
    assert breaker.probation.get(DIGEST).is_on_probation
    await until(lambda: not breaker.probation.get(DIGEST).is_on_probation)


@on_loop
async def test_on_probation_until_then(tmp_path: Path) -> None:
    breaker = Breaker(tmp_path, Health(), TrialConfig)
    start(breaker, DIGEST)
    breaker.probation.begin(DIGEST, "m", 1)
    breaker.on_ready(ready(DIGEST))
    await turns()
    assert breaker.probation.get(DIGEST).is_on_probation
    breaker.stop()


def test_hopeless(breaker: Breaker) -> None:
    start(breaker, DIGEST)
    assert not breaker.is_quarantined(DIGEST)
    breaker.on_hopeless(ready(DIGEST), "its worker died on and on")
    assert breaker.is_quarantined(DIGEST)
    breaker.probation.lift(DIGEST)
    assert not breaker.is_quarantined(DIGEST)
