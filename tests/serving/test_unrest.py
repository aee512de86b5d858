"""Who is at rest is left alone; whoever is not is found, whatever made it so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edged.config.schema import ModelConfig
from edged.serving.desired import Desired
from edged.serving.lifecycle import NEVER_NS, Event, ReleaseKey, State, next_action
from edged.serving.release import ServedRelease
from edged.serving.unrest import Unrest, retry_at_ns
from tests.fakes.model import FakeStored, doubler


def release(name: str, number: int = 1) -> ServedRelease:
    item = Desired(f"{number:064x}", FakeStored(doubler(name, number)), ModelConfig(bundle="x"))
    made = ServedRelease(item.key, item.stored.manifest, item.config, 0)
    for event in (Event.LOAD, Event.LOADED, Event.WARMED):
        made.move(event)
    return made


class Shelf:
    """Two models of one release, and one of two; all serve, and are wanted."""

    def __init__(self) -> None:
        made = [release("a"), release("b"), release("c", 1), release("c", 2)]
        self.releases = {one.key: one for one in made}
        self.desired = set(self.releases)
        self.aims, self.unrest = 1, Unrest()

    def find(self) -> dict[str, list[ReleaseKey]]:
        return self.unrest.find(self.releases, self.desired, self.aims)

    def of(self, model: str) -> list[ReleaseKey]:
        return [key for key in self.releases if key.model == model]

    def add(self) -> None:
        item = Desired(f"{7:064x}", FakeStored(doubler("d", 1)), ModelConfig(bundle="x"))
        self.releases[item.key] = ServedRelease(item.key, item.stored.manifest, item.config, 0)
        self.desired.add(item.key)
        self.aims += 1

    def unwant(self) -> None:
        self.desired.discard(self.of("c")[0])
        self.aims += 1


@pytest.mark.parametrize(
    ("happen", "model"),
    [
        (lambda shelf: shelf.releases[shelf.of("b")[0]].move(Event.DIE, "gone"), "b"),
        (lambda shelf: shelf.releases[shelf.of("c")[1]].move(Event.EVICT), "c"),
        (Shelf.add, "d"),
        (Shelf.unwant, "c"),
    ],
)
def test_who_is_found(happen: Callable[[Shelf], None], model: str) -> None:
    """With ``_rested`` never given up none of these is."""
    shelf = Shelf()
    assert shelf.find() == shelf.find() == {}
    happen(shelf)
    for _ in range(2):  # until it is at rest again it is found at each step
        assert shelf.find() == {model: shelf.of(model)}


def test_nothing_is_to_be_done_for_who_rests() -> None:
    """The rule itself: ``next_action`` agrees, also of two releases that serve side by side."""
    shelf = Shelf()
    for model in "abc":
        snapshots = [shelf.releases[key].snapshot(is_desired=True) for key in shelf.of(model)]
        assert next_action(snapshots, 10**18) is None


def test_it_is_over_until_something_happens() -> None:
    shelf = Shelf()
    assert not shelf.unrest.is_over(shelf.aims)  # nobody has looked
    shelf.find()
    assert shelf.unrest.is_over(shelf.aims)
    assert not shelf.unrest.is_over(shelf.aims + 1)
    shelf.releases[shelf.of("b")[0]].move(Event.DIE, "gone")
    assert not shelf.unrest.is_over(shelf.aims)
    shelf.find()
    assert not shelf.unrest.is_over(shelf.aims)


def test_a_failed_load_is_tried_again() -> None:
    shelf = Shelf()
    assert retry_at_ns(shelf.releases, shelf.desired, shelf.find()) is None
    times = {"a": 700, "b": 500, "c": NEVER_NS}
    for name, at_ns in times.items():
        one = shelf.releases[shelf.of(name)[0]]
        one.move(Event.DIE, "gone")
        one.retry_at_ns = at_ns
    assert retry_at_ns(shelf.releases, shelf.desired, shelf.find()) == 500
    models = shelf.find()
    del shelf.releases[shelf.of("b")[0]]  # forgotten during the step
    assert retry_at_ns(shelf.releases, shelf.desired, models) == 700
    assert retry_at_ns(shelf.releases, set(), models) is None
    assert all(one.state is not State.FAILED for one in shelf.releases.values() if one.number == 2)
