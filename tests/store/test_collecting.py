"""What leaves the store, what never does, and what a cut in between leaves."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from edged.config.store import StoreConfig
from edged.errors import IncompatibleError
from edged.faults import ERROR_VARIABLE, EXIT_STATUS, VARIABLE
from edged.specs import Size
from edged.store import bundle, collecting
from edged.store.collecting import Entry, Needed, choose, yielding
from edged.store.repository import Repository
from edged.store.trust_store import TrustStore
from edged.store.unchanged import Unchanged
from tests.bundles import make_bundle
from tests.models import double

ALL = TrustStore({}, 1, required=False)


def entry(model: str, release: int, *, is_sure: bool = True) -> Entry:
    return Entry(f"{model}{release}", model, release, 10, is_sure)


@pytest.mark.parametrize(
    ("needed", "keep", "going"),
    [
        ((), 0, ["a1", "b1", "a2", "a3"]),
        ((), 1, ["a1", "a2"]),
        ((), 2, ["a1"]),
        ((), 9, []),
        (("a1",), 0, ["b1", "a2", "a3"]),
        (("a3",), 1, ["a1"]),
        (("a1", "a2", "a3", "b1"), 0, []),
    ],
)
def test_choose(needed: tuple[str, ...], keep: int, going: list[str]):
    entries = [entry("a", 3), entry("a", 1), entry("b", 1), entry("a", 2)]
    assert [one.digest for one in choose(entries, needed, keep)] == going


@pytest.mark.parametrize(
    ("needed", "keep", "order"),
    [
        ((), 0, ["b1", "a7", "a8", "a9"]),
        ((), 1, ["a7", "a8", "b1", "a9"]),
        ((), 2, ["a7", "a8", "b1", "a9"]),
        ((), 9, ["a7", "a8", "b1", "a9"]),
        (("a9", "b1"), 1, ["a7", "a8"]),
    ],
)
def test_what_is_kept_though_unneeded_makes_room_last(
    needed: tuple[str, ...], keep: int, order: list[str]
):
    entries = [entry("a", 9), entry("a", 7), entry("b", 1), entry("a", 8)]
    assert [one.digest for one in yielding(entries, needed, keep)] == order


def test_what_is_damaged_goes_and_what_cannot_be_read_stays():
    damaged, unsure = Entry("x", "", 0, 5), entry("a", 1, is_sure=False)
    assert choose([unsure, damaged], (), 9) == [damaged]
    assert choose([damaged], ("x",), 0) == []


class Shop:
    """A store with releases 1 to 4 of m; 4 serves and 3 did before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.bundles = [
            make_bundle(folder / f"{n}.edgb", double(factor=n + 1), name="m", release=n)
            for n in range(1, 7)
        ]
        self.repository = Repository(self.state)
        self.repository.open()
        self.digests = [self.take(n) for n in range(1, 5)]
        for digest in self.digests:
            self.repository.activate("m", digest)
            self.repository.mark_good("m", digest)
        self.collector = self.repository.collector
        self.needed: set[str] = set()
        self.models = {"m"}
        self.collector.in_use = lambda: Needed(self.needed, self.models)
        self.rules(keep=0)

    def take(self, number: int) -> str:
        return self.repository.import_bundle(self.bundles[number - 1], ALL).digest

    def rules(self, *, keep: int = 0, max_bytes: int | None = None) -> None:
        size = None if max_bytes is None else Size(max_bytes)
        self.collector.rules = StoreConfig(keep=keep, max_bytes=size)

    def numbers(self) -> list[int]:
        return sorted(self.digests.index(one) + 1 for one in self.repository.digests())


@pytest.fixture
def shop(tmp_path: Path):
    made = Shop(tmp_path)
    yield made
    made.repository.close()


class TestCollect:
    def test_what_a_change_asked_for_stays_until_it_is_decided(self, shop: Shop):
        assert shop.collector.collect().going == ()
        shop.collector.settle()
        assert shop.numbers() == [3, 4], "the slots' own"

    def test_needed_and_spare_ones_stay(self, shop: Shop):
        shop.needed = {shop.digests[0]}
        shop.rules(keep=1)
        shop.collector.settle()
        assert shop.numbers() == [1, 2, 3, 4]
        shop.rules(keep=0)
        plan = shop.collector.collect(dry_run=True)
        assert ([one.release for one in plan.going], len(plan.staying)) == ([2], 3)
        assert shop.numbers() == [1, 2, 3, 4]
        shop.collector.collect()
        assert shop.numbers() == [1, 3, 4]
        assert not list((shop.state / "staging").iterdir())

    def test_taken_in_again_afterwards(self, shop: Shop):
        shop.collector.settle()
        assert shop.take(1) == shop.digests[0]
        assert shop.repository.release(shop.digests[0]).artefact("onnx")

    def test_what_is_told_of_it(self, shop: Shop):
        told = shop.collector.as_dict()
        assert (told["releases"], told["collected"], told["max_bytes"]) == (4, 0, None)
        shop.collector.settle()
        told = shop.collector.as_dict()
        on_disk = [one.stat().st_size for one in (shop.state / "store").glob("*/*")]
        assert (told["releases"], told["bytes"], told["collected"]) == (2, sum(on_disk), 2)
        assert told["collected_bytes"] > 0
        shop.rules(max_bytes=1 << 20)
        shop.take(1)
        told = json.loads(msgspec.json.encode(shop.collector.as_dict()))  # as the socket does
        assert (told["releases"], told["max_bytes"]) == (3, 1 << 20)

    def test_nothing_goes_when_nobody_says_what_is_needed(self, shop: Shop):
        def unknown() -> Needed:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        shop.collector.in_use = unknown
        with pytest.raises(OSError, match="Too many open files"):
            shop.collector.settle()
        shop.collector.in_use = None
        shop.collector.settle()
        assert shop.numbers() == [1, 2, 3, 4]

    def test_a_model_that_nobody_knows_any_more(self, shop: Shop):
        shop.models = set()
        shop.collector.settle()
        assert shop.numbers() == []
        assert list((shop.state / "slots").iterdir()) == []
        assert shop.repository.current("m") is None
        shop.repository.activate("m", shop.take(2))
        assert shop.repository.current("m") == shop.digests[1]

    def test_a_disk_that_fails(self, shop: Shop, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(ERROR_VARIABLE, "collect.synced")
        with pytest.raises(OSError, match="Input/output"):
            shop.collector.settle()
        monkeypatch.delenv(ERROR_VARIABLE)
        shop.collector.settle()
        assert shop.numbers() == [3, 4]

    def test_control_one_that_is_needed_would_be_missed(self, shop: Shop, monkeypatch):
        """Negative control: without the slots, what serves would go."""
        monkeypatch.setattr(collecting.Slots, "held", lambda *_: set())
        shop.collector.settle()
        assert shop.numbers() == []


class TestQuota:
    def test_whether_anything_new_is_taken_is_told_by_what_must_stay(self, shop: Shop):
        """Of releases 1 to 4 the last two must; 1 and 2 are spare, and make room."""
        shop.rules(keep=2)
        shop.collector.settle()
        told = shop.collector.as_dict()
        assert (told["releases"], shop.numbers()) == (4, [1, 2, 3, 4])
        shop.rules(max_bytes=told["needed_bytes"] - 1, keep=2)
        with pytest.raises(IncompatibleError, match=r"more than store\.max_bytes"):
            shop.take(5)
        shop.rules(max_bytes=told["needed_bytes"] * 3 // 2, keep=2)
        assert told["needed_bytes"] * 3 // 2 < told["bytes"]
        shop.digests += [shop.take(5)]
        assert shop.numbers() == [3, 4, 5]

    def test_what_is_not_needed_makes_room(self, shop: Shop):
        each = shop.collector.collect(dry_run=True).staying[0].size
        shop.collector.settle()
        shop.take(1)
        shop.collector.settle()  # release 1 is spare
        shop.rules(max_bytes=3 * each + 100)
        shop.digests += [shop.take(5)]
        assert shop.numbers() == [3, 4, 5]
        with pytest.raises(IncompatibleError, match=r"release 6 of m has .* store\.max_bytes"):
            shop.take(6)
        assert shop.numbers() == [3, 4, 5]
        assert not list((shop.state / "staging").iterdir())

    def test_a_full_disk(self, shop: Shop, monkeypatch: pytest.MonkeyPatch):
        shop.rules(keep=4)
        shop.collector.settle()
        monkeypatch.setattr(collecting.Collector, "_is_disk_short", lambda *_: True)
        shop.digests += [shop.take(5)]
        assert shop.numbers() == [3, 4, 5], "the spare ones too"

    def test_one_that_does_not_come_after_all_is_not_counted(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ):
        shop.collector.settle()
        before = shop.collector.as_dict()
        monkeypatch.setattr(bundle, "_RESERVE", 1e18)
        with pytest.raises(IncompatibleError, match="make room"):
            shop.take(5)
        assert shop.collector.as_dict() == before
        monkeypatch.undo()
        shop.take(5)
        assert shop.collector.as_dict()["releases"] == before["releases"] + 1

    def test_a_disk_that_is_nearly_full(self, shop: Shop, monkeypatch: pytest.MonkeyPatch):
        """What leaves counts as free: no more of the spare ones go than have to."""
        shop.rules(keep=4)
        shop.collector.settle()
        members = shop.repository.release(shop.digests[0]).manifest.members
        size = sum(one.size for one in members)

        def statvfs(_path: object) -> SimpleNamespace:
            return SimpleNamespace(f_bavail=(5 - len(shop.repository.digests())) * size, f_frsize=1)

        monkeypatch.setattr(collecting.os, "statvfs", statvfs)
        shop.digests += [shop.take(5)]
        assert shop.numbers() == [2, 3, 4, 5]


CODE = """
import sys
from pathlib import Path
from edged.config.store import StoreConfig
from edged.store.collecting import Needed
from edged.store.repository import Repository
repository = Repository(Path(sys.argv[1]))
repository.open()
repository.collector.rules = StoreConfig(keep=0)
repository.collector.in_use = lambda: Needed((), {sys.argv[2]})
repository.collector.settle()
"""


@pytest.mark.parametrize(
    ("point", "model"),
    [
        ("collect.renamed", "m"), ("collect.synced", "m"), ("collect.removed", "m"),
        ("slots.emptied", "other"), ("collect.renamed", "other"),
    ],
)  # fmt: skip
def test_killed_in_between(shop: Shop, point: str, model: str):
    shop.repository.close()
    done = subprocess.run(
        [sys.executable, "-c", CODE, shop.state, model],
        env=os.environ | {VARIABLE: point}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_STATUS
    repository = Repository(shop.state)
    repository.open()
    assert not list((shop.state / "staging").iterdir())
    for digest in repository.digests():
        assert repository.release(digest).artefact("onnx")
    if model == "m":
        assert repository.current("m") == shop.digests[3]
        assert repository.previous("m") == shop.digests[2]
    repository.close()


def test_the_size_of_a_release_is_added_up_anew_once_files_came_or_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(collecting, "Unchanged", lambda: Unchanged(now_ns=lambda: 2**62))
    repository = Repository(tmp_path / "state")
    repository.open()
    stored = repository.import_bundle(make_bundle(tmp_path / "a.edgb", double()), ALL)
    collector = repository.collector
    collector.collect()
    size = collector.as_dict()["bytes"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", None)
        collector.collect()
    assert collector.as_dict()["bytes"] == size
    (stored.directory / "more").write_bytes(b"12345")
    collector.collect()
    assert collector.as_dict()["bytes"] == size + 5
    repository.close()
