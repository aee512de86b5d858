"""What is known of generations after anything: whole, or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.config.load import Snapshot, load
from edged.config.problems import ConfigProblemsError
from edged.faults import ERROR_VARIABLE, EXIT_STATUS, VARIABLE
from edged.generation.entries import Entry
from edged.generation.history import (
    CRASHES_CAP,
    KEPT,
    STARTS_CAP,
    History,
    Marks,
    Order,
    Rejection,
    Trying,
)

BUNDLES = {"m": ["a" * 64]}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir(mode=0o755)
    return tmp_path / "etc"


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "state/history")


def snapshot(etc: Path, number: int) -> Snapshot:
    (etc / "edged.yaml").write_text(f"node: n{number}\n")
    return load(etc)


def add(history: History, etc: Path, number: int, *, is_good: bool = True) -> None:
    history.add(snapshot(etc, number), Entry(number, f"d{number}", 1.0, releases=BUNDLES))
    if is_good:
        history.confirm(number, f"d{number}")


class TestEntries:
    def test_there_and_back(self, history: History, etc: Path) -> None:
        add(history, etc, 1)
        add(history, etc, 2, is_good=False)
        assert [one.generation for one in history.entries()] == [1, 2]
        back = history.read(1)
        assert back.config.node == "n1"
        assert back.root == etc
        assert back.kept is not None
        assert (back.kept.generation, back.kept.digest) == (1, "d1")
        assert back.kept.releases == {"m": ("a" * 64,)}
        assert history.pinned() == ({"m"}, {"a" * 64})

    def test_old_ones_make_room_but_not_the_last_good_one(
        self, history: History, etc: Path
    ) -> None:
        add(history, etc, 1)
        for number in range(2, KEPT + 5):
            add(history, etc, number, is_good=False)
        kept = [one.generation for one in history.entries()]
        assert kept == [1, *range(5, KEPT + 5)]

    def test_content_that_came_back_is_the_last_good_one(self, history: History, etc: Path) -> None:
        """An operator goes back by two: after a restart that one serves, and not the one between."""
        for number in (1, 2, 3):
            add(history, etc, number)
        history.reject(Rejection("d3", 3, 1.0, "an operator went back to generation 1"))
        back = history.read(1)
        history.add(back, Entry(4, "d1", 2.0, "rollback", BUNDLES))
        assert [one.kept.generation for one in history.last_good("d3") if one.kept] == [4, 2]
        assert history.marks().confirmed == (1, 2, 4)
        history._write(Marks((1, 2), history.marks().rejected))  # the power was cut before that
        assert [one.kept.generation for one in history.last_good("d3") if one.kept] == [4, 2]

    @pytest.mark.parametrize("name", ["entry.json", "copy.json", "0"])
    def test_a_damaged_one_is_passed_over(
        self, history: History, etc: Path, tmp_path: Path, name: str
    ) -> None:
        add(history, etc, 1)
        add(history, etc, 2)
        (tmp_path / "state/history/00000002" / name).write_bytes(b"{")
        (back,) = history.last_good("d3")
        assert back.kept is not None
        assert back.kept.generation == 1

    @pytest.mark.parametrize("name", ["00000003", "x", ".new-1", "123456789"])
    def test_strange_things_in_the_folder(
        self, history: History, etc: Path, tmp_path: Path, name: str
    ) -> None:
        add(history, etc, 1)
        (tmp_path / "state/history" / name).mkdir()
        assert [one.generation for one in history.entries()] == [1]
        with pytest.raises((ConfigProblemsError, OSError)):
            history.read(3)

    @pytest.mark.parametrize(
        "point",
        [
            "write.entry.json",
            "history.written",
            "history.cleared",
            "history.renamed",
            "history.synced",
        ],
    )
    def test_killed_in_between(
        self, history: History, etc: Path, tmp_path: Path, point: str
    ) -> None:
        add(history, etc, 1)
        snapshot(etc, 2)
        work = (
            "import sys; from pathlib import Path; from edged.config.load import load\n"
            "from edged.generation.entries import Entry\n"
            "from edged.generation.history import History\n"
            "History(Path(sys.argv[1])).add(load(Path(sys.argv[2])), Entry(2, 'd2', 1.0))"
        )
        folder = tmp_path / "state/history"
        done = subprocess.run(
            [sys.executable, "-c", work, str(folder), str(etc)],
            env={**os.environ, VARIABLE: point}, check=False,
        )  # fmt: skip
        assert done.returncode == EXIT_STATUS
        kept = {one.generation: history.read(one.generation) for one in history.entries()}
        assert [one.config.node for one in kept.values()] in (["n1"], ["n1", "n2"])
        add(history, etc, 2)
        assert not list(folder.glob(".new-*"))

    def test_a_disk_that_fails_leaves_the_old(
        self, history: History, etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(history, etc, 1)
        monkeypatch.setenv(ERROR_VARIABLE, "history.written")
        with pytest.raises(OSError, match="Input/output"):
            add(history, etc, 2)
        assert [one.generation for one in history.entries()] == [1]
        assert not list((tmp_path / "state/history").glob(".new-*"))


class TestMarks:
    def test_what_has_to_prove_itself(self, history: History, etc: Path) -> None:
        assert history.begin("d1")
        add(history, etc, 1)
        assert not history.begin("d1")
        assert history.begin("d2")
        assert history.marks().trying == Trying("d2")
        assert not history.begin("d1")  # back in the files
        assert history.marks().trying is None

    def test_rejected_and_lifted(self, history: History, etc: Path) -> None:
        add(history, etc, 1)
        add(history, etc, 2)
        history.reject(Rejection("d2", 2, 1.0, "it was worse"))
        assert history.doubt("d2", has_crashed=False) == "it was worse"
        assert [one.kept.digest for one in history.last_good() if one.kept] == ["d1"]
        history.lift("d2")
        assert history.doubt("d2", has_crashed=False) == ""
        assert history.begin("d2")  # it has to prove itself again

    def test_what_cannot_be_written_holds_all_the_same(
        self, history: History, etc: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(history, etc, 1)
        monkeypatch.setenv(ERROR_VARIABLE, "marks.before")
        with pytest.raises(OSError, match="Input/output"):
            history.reject(Rejection("d1", 1, 1.0, "bad"))
        assert history.doubt("d1", has_crashed=False) == "bad"

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"confirmed": "x"}', b"\xff"])
    def test_damaged_ones_count_as_none(
        self, history: History, etc: Path, tmp_path: Path, content: bytes
    ) -> None:
        add(history, etc, 1)
        (tmp_path / "state/history/marks.json").write_bytes(content)
        assert history.marks() == Marks()
        (tmp_path / "state/history/order.json").write_bytes(content)
        assert history.ordered() in (None, Order())

    def test_none_is_lost_while_files_cannot_be_opened(
        self, history: History, etc: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(history, etc, 1)
        history.reject(Rejection("d2", 2, 1.0, "it was worse"))
        real, left = Path.open, [1]

        def short(path: Path, *words: Any) -> Any:
            if left[0] and path.name == "marks.json":
                left[0] -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(path, *words)

        monkeypatch.setattr(Path, "open", short)
        with pytest.raises(OSError, match="Too many open files"):
            history.begin("d3")
        assert [one.digest for one in history.marks().rejected] == ["d2"]
        assert history.marks().confirmed == (1,)

    @pytest.mark.parametrize(("generation", "again"), [(3, False), (0, False), (None, True)])
    def test_orders(self, history: History, generation: int | None, again: bool) -> None:
        assert history.ordered() is None
        history.order(Order(generation, again))
        assert history.ordered() == Order(generation, again)
        history.forget_order()
        assert history.ordered() is None

    def test_a_number_that_is_none(self, history: History, tmp_path: Path) -> None:
        history.order(Order(1))
        (tmp_path / "state/history/order.json").write_bytes(msgspec.json.encode({"generation": -1}))
        assert history.ordered() is None


class TestBootLoop:
    """A content that ends the daemon again and again is not started with for ever."""

    def start(self, history: History, digest: str, *, has_crashed: bool) -> bool:
        if history.doubt(digest, has_crashed=has_crashed):
            return False
        history.begin(digest, has_crashed=has_crashed, is_boot=True)
        return True

    def test_crashes_end_it(self, history: History, etc: Path) -> None:
        add(history, etc, 1)
        history.begin("d2")
        starts = [self.start(history, "d2", has_crashed=True) for _ in range(CRASHES_CAP)]
        assert starts == [True] * (CRASHES_CAP - 1) + [False]

    def test_so_do_ends_that_look_like_power_cuts_but_later(
        self, history: History, etc: Path
    ) -> None:
        add(history, etc, 1)
        history.begin("d2")
        starts = [self.start(history, "d2", has_crashed=False) for _ in range(STARTS_CAP)]
        assert starts == [True] * (STARTS_CAP - 1) + [False]

    def test_an_end_in_good_order_begins_anew(self, history: History) -> None:
        history.begin("d2")
        for _ in range(20):
            assert self.start(history, "d2", has_crashed=True)
            history.end()

    def test_what_proved_good_is_not_counted(self, history: History, etc: Path) -> None:
        add(history, etc, 1)
        for _ in range(20):
            assert self.start(history, "d1", has_crashed=True)
