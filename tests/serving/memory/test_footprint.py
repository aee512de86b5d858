"""What memory releases take: bounds that only fall."""

from __future__ import annotations

import os

import pytest

from edged.device.memory import Taken
from edged.loading import Footprint
from edged.serving.memory import footprint as module
from edged.serving.memory.footprint import Sizes, Sizing, bounded, grown
from edged.workers.isolation import WorkerSession
from tests.fakes.loader import Footprints
from tests.fakes.model import FakeRuntime, FakeSession, FakeStored, doubler

MIB = 1 << 20
BOUND = Footprint(100 * MIB, 100 * MIB)


class Runtime(FakeRuntime):
    def estimate_bytes(self, artefact: object) -> int:
        return 100 * MIB


@pytest.fixture
def kept() -> Footprints:
    return Footprints()


@pytest.fixture
def sizes(kept: Footprints) -> Sizes:
    return Sizes(lambda _: Runtime(), kept)


def one(*, is_apart: bool = False, runtimes: tuple[str, ...] = ("onnxruntime",)) -> Sizing:
    stored = FakeStored(doubler("gate", 1))
    return Sizing("d", "here", stored, runtimes, lambda _, entries: entries, is_apart)


def taken(monkeypatch: pytest.MonkeyPatch, *private: int) -> None:
    """What this process has, at one look after the other, in MiB."""
    looks = iter(private)
    monkeypatch.setattr(module, "taken", lambda _pid=None: Taken(next(looks) * MIB, 0, 0))


def test_growth_leaves_out_libraries():
    before, after = Taken(50, 90, 40), Taken(70, 150, 65)
    assert grown(before, after) == Footprint(35, 20)
    assert grown(before, after._replace(files=30)) == Footprint(60, 20)


@pytest.mark.parametrize(
    ("found", "floor", "wanted"),
    [
        (Footprint(30 * MIB, 20 * MIB), 0, Footprint(3840 * 10240, 25 * MIB)),
        (Footprint(0, 0), 8 * MIB, Footprint(10 * MIB, 10 * MIB)),
        (Footprint(900 * MIB, 800 * MIB), 0, BOUND),
        (Footprint(10 * MIB, 20 * MIB), 0, Footprint(25 * MIB, 25 * MIB)),
        (Footprint(-MIB, -MIB), 0, Footprint(0, 0)),
    ],
    ids=["a quarter more", "at least its files", "never above the bound", "peak", "shrunk"],
)
def test_bounds(found: Footprint, floor: int, wanted: Footprint):
    made = bounded(found, BOUND, floor)
    assert made.held == wanted.held
    assert wanted.peak <= made.peak <= wanted.peak + (1 << 18)
    assert made.peak >= made.held


def test_unknown_is_what_the_files_let_one_fear(sizes: Sizes, kept: Footprints):
    assert sizes.bound(one()) == BOUND
    assert sizes.bound(one(is_apart=True)._replace(setting="apart")).held == 164 * MIB
    assert kept.noted == {}


def test_a_load_inside_is_measured(sizes: Sizes, kept: Footprints, monkeypatch):
    taken(monkeypatch, 40, 60)
    found = sizes.loaded(one(), sizes.watch(), FakeSession())
    assert (found.peak, found.held) == (100 * MIB, 25 * MIB)
    assert found.load_ns > 0
    assert sizes.bound(one()) == found
    # Nobody saw what it took at most: no reason to refuse it, in this life or the next.
    assert not found.is_measured
    assert not kept.noted
    taken(monkeypatch, 40, 55)
    assert sizes.loaded(one(), sizes.watch(), FakeSession()).held == 25 * MIB
    # A trial does see it.
    assert sizes._learn(one(), Footprint(50 * MIB, 20 * MIB, 7, is_measured=True)).is_measured
    assert kept.noted["d", "here"] == (50 * MIB, 20 * MIB, 7)


def test_of_a_shared_process_only_what_it_grew(sizes: Sizes, monkeypatch: pytest.MonkeyPatch):
    """The rest is the other models', or the process's own."""

    class Shared(WorkerSession):
        pid = 1

        def __init__(self) -> None:
            self.memory_before = Taken(500 * MIB, 500 * MIB, 0)

    monkeypatch.setattr(module, "taken", lambda _pid=None: Taken(520 * MIB, 540 * MIB, 0))
    found = sizes.loaded(one(), sizes.watch(), Shared())
    assert (found.peak, found.held) == (50 * MIB, 25 * MIB)
    assert found.is_measured


def test_what_a_gpu_holds_is_not_measured(sizes: Sizes, monkeypatch):
    taken(monkeypatch, 40, 60, 40, 60)
    there = one()._replace(is_on_host=False)
    sizes.tried(there, FakeSession())
    for _ in range(2):
        found = sizes.loaded(there, sizes.watch(), FakeSession())
        assert found[:2] == BOUND[:2]
        assert not found.is_measured


def test_what_is_known_only_falls(sizes: Sizes, kept: Footprints, monkeypatch):
    kept.noted["d", "here"] = (50 * MIB, 30 * MIB, 7)
    taken(monkeypatch, 40, 90)
    found = sizes.loaded(one(), sizes.watch(), FakeSession())
    assert (found.peak, found.held) == (50 * MIB, 30 * MIB)
    assert kept.noted["d", "here"][2] > 7, "what a load takes is as the last one took"


def test_a_trial_that_took_more_changes_nothing(sizes: Sizes, kept: Footprints):
    sizes._learn(one(), Footprint(50 * MIB, 30 * MIB, is_measured=True))
    again = sizes._learn(one(), Footprint(90 * MIB, 40 * MIB))
    assert again[:2] == (50 * MIB, 30 * MIB) == kept.noted["d", "here"][:2]


def test_nothing_is_written_for_a_time_that_hardly_differs(sizes: Sizes, kept: Footprints):
    known = Footprint(50 * MIB, 30 * MIB, 1000, is_measured=True)
    sizes._learn(one(), known)
    sizes._learn(one(), known._replace(load_ns=1200))
    assert kept.noted["d", "here"][2] == 1000
    sizes._learn(one(), known._replace(load_ns=2000, held=20 * MIB))
    assert kept.noted["d", "here"] == (50 * MIB, 20 * MIB, 2000)


def test_a_kernel_that_says_nothing_leaves_the_bound(sizes: Sizes, monkeypatch):
    monkeypatch.setattr(module, "taken", lambda _pid=None: None)
    found = sizes.loaded(one(), sizes.watch(), FakeSession())
    assert found[:2] == BOUND[:2]
    sizes.tried(one(), FakeSession())


def test_no_runtime_takes_it(sizes: Sizes):
    """The load says so, and why; the bound only must not stand in its way."""
    nowhere = one()._replace(pick=lambda *_: [])
    assert sizes.bound(nowhere).peak == 1


def test_a_real_process_knows_what_it_has():
    watch = Sizes(lambda _: Runtime(), Footprints()).watch()
    assert watch.before is not None
    assert watch.before.private > MIB
    assert os.getpid()
