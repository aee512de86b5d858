"""What is learnt of a release outlives the process, and never stands in the way by itself."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.errors import QuarantinedError
from edged.store.probation import DEATHS_CAP, Probation, Quarantine, Standing, after_start

A, B = "a" * 64, "b" * 64
ORT = "onnxruntime 1.23"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "probation"


@pytest.fixture
def probation(directory: Path) -> Probation:
    return Probation(directory, lambda: 1000.0)


def again(directory: Path, *, has_crashed: bool, known: tuple[str, ...] = (A, B)) -> Probation:
    """The daemon's next start."""
    made = Probation(directory)
    made.start(has_crashed=has_crashed, known=known)
    return made


ON = Standing(is_on_probation=True)
ROWS = {
    "a crash while on probation": (ON, True, Standing(deaths=1)),
    "another": (Standing(is_on_probation=True, deaths=1), True, Standing(deaths=2)),
    "an end from outside or in good order": (ON, False, Standing()),
    "an end from outside does not forgive": (
        Standing(is_on_probation=True, deaths=1),
        False,
        Standing(deaths=1),
    ),
    "a crash long after": (Standing(passed=(ORT,)), True, Standing(passed=(ORT,))),
    "a crash after one that was blamed": (Standing(deaths=1), True, Standing(deaths=1)),
    "in quarantine": (
        Standing(quarantine=Quarantine(reason="r", at=1)),
        True,
        Standing(quarantine=Quarantine(reason="r", at=1)),
    ),
    "nothing known": (Standing(), True, Standing()),
}


@pytest.mark.parametrize("name", ROWS)
def test_after_start(name: str):
    before, has_crashed, after = ROWS[name]
    assert after_start(before, has_crashed=has_crashed) == after


LIVES: dict[str, tuple[str, str | None]] = {
    # l = load into the daemon, s = survived its window, u = the load failed and did no harm;
    # then how the daemon ended: C = by its own doing, K = from outside or in good order.
    "first start": ("", "loads"),
    "one crash": ("lC", "loads"),
    "two crashes": ("lC lC", "left out"),
    "killed twice": ("lK lK", "loads"),
    "killed often": ("lK lK lK lK", "loads"),
    "crash, killed, crash": ("lC lK lC", "left out"),
    "crash, well, crash": ("lC lsC lC", "loads"),
    "crashes long after loading": ("lsC lsC lsC", "loads"),
    "crashes after a load that failed": ("luC luC luC", "loads"),
    "crashes without a load": ("C C C", "loads"),
    "crash, then loaded again and well": ("lC ls", "loads"),
}


@pytest.mark.parametrize("name", LIVES)
def test_lives(directory: Path, name: str):
    story, expected = LIVES[name]
    probation = again(directory, has_crashed=False)
    for run in story.split():
        for step in run:
            if step == "l":
                probation.begin(A, "gate", 3)
            elif step == "s":
                probation.survived(A, probation.attempt(A))
            elif step == "u":
                probation.release_unharmed(A)
            else:
                probation = again(directory, has_crashed=step == "C")
    if expected == "loads":
        probation.admit(A)
        probation.begin(A, "gate", 3)
    else:
        with pytest.raises(QuarantinedError, match="the daemon died 2 times in a row"):
            probation.begin(A, "gate", 3)
        with pytest.raises(QuarantinedError):
            again(directory, has_crashed=False).admit(A)
        assert not probation.get(A).is_on_probation


def test_the_cap_is_what_the_words_say():
    assert DEATHS_CAP == 2


class TestQuarantine:
    def test_says_why_and_the_way_back(
        self, probation: Probation, caplog: pytest.LogCaptureFixture
    ):
        probation.quarantine(A, "gate", 3, "its trial died of SIGFPE")
        with pytest.raises(QuarantinedError) as caught:
            probation.admit(A)
        assert caught.value.message == (
            "in quarantine: its trial died of SIGFPE; to try it again: "
            f"edged quarantine --lift {A[:12]}, then reload"
        )
        assert probation.get(A).quarantine == Quarantine(reason="its trial died of SIGFPE", at=1000)
        assert "model gate release 3 is in quarantine" in caplog.text
        probation.admit(B)

    def test_survives_starts_and_survived(self, directory: Path, probation: Probation):
        probation.begin(A, "gate", 3)
        probation.quarantine(A, "gate", 3, "why")
        probation.survived(A, probation.attempt(A))
        for _ in range(3):
            with pytest.raises(QuarantinedError):
                again(directory, has_crashed=False).admit(A)

    def test_lift_gives_a_clean_sheet(self, directory: Path, probation: Probation):
        probation.begin(A, "gate", 3)
        probation.note_passed(A, "gate", 3, ORT)
        probation.quarantine(A, "gate", 3, "why")
        probation.lift(A)
        probation.admit(A)
        assert probation.get(A) == Standing()
        assert list(directory.iterdir()) == []
        probation.lift(A)

    def test_lifted_by_another_process(self, directory: Path, probation: Probation):
        """``edged quarantine --lift`` beside the daemon that runs: it looks at the disk again."""
        probation.quarantine(A, "gate", 3, "why")
        Probation(directory).lift(A)
        assert probation.get(A).quarantine is None
        probation.admit(A)
        probation.begin(A, "gate", 3)
        assert probation.get(A).quarantine is None

    def test_put_in_by_another_process(self, directory: Path, probation: Probation):
        probation.begin(A, "gate", 3)
        Probation(directory).quarantine(A, "gate", 3, "by hand")
        with pytest.raises(QuarantinedError, match="by hand"):
            probation.admit(A)

    def test_holds_and_is_not_overwritten_while_files_cannot_be_opened(
        self, directory: Path, probation: Probation, monkeypatch: pytest.MonkeyPatch
    ):
        probation.quarantine(A, "m", 1, "it did harm")
        probation.note_passed(B, "m", 2, ORT)
        fresh = Probation(directory)
        real, left = Path.open, [6]

        def short(path: Path, *words: Any) -> Any:
            if left[0] and path.suffix == ".json":
                left[0] -= 1
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(path, *words)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", short)
            with pytest.raises(QuarantinedError, match="cannot be read at the moment"):
                fresh.admit(A)
            fresh.note_passed(A, "m", 1, ORT)
            fresh.note_passed(A, "m", 1, ORT)
            fresh.quarantine(B, "m", 2, "it did harm, too")
        assert left == [0]
        with pytest.raises(QuarantinedError, match="it did harm"):
            Probation(directory).admit(A)
        with pytest.raises(QuarantinedError, match="too"):
            fresh.admit(B)
        fresh.write_condemned()
        assert Probation(directory).get(B).passed == (ORT,)
        with pytest.raises(QuarantinedError, match="too"):
            Probation(directory).admit(B)


class TestPassed:
    def test_for_each_runtime_and_version(self, directory: Path, probation: Probation):
        probation.note_passed(A, "gate", 3, ORT)
        probation.note_passed(A, "gate", 3, ORT)
        fresh = Probation(directory)
        assert fresh.has_passed(A, ORT)
        assert not fresh.has_passed(A, "onnxruntime 1.24")
        assert not fresh.has_passed(B, ORT)
        assert fresh.get(A) == Standing(model="gate", release=3, passed=(ORT,))

    def test_the_last_few_versions_are_kept(self, probation: Probation):
        for version in range(28):
            probation.note_passed(A, "gate", 3, f"o {version}")
        probation.note_passed(A, "gate", 3, "o 12")
        assert probation.get(A).passed == (
            *(f"o {version}" for version in range(13, 28)),
            "o 12",
        )

    def test_keeps_what_else_is_known(self, probation: Probation):
        probation.begin(A, "gate", 3)
        probation.note_passed(A, "gate", 3, ORT)
        assert probation.get(A).is_on_probation
        probation.survived(A, probation.attempt(A))
        assert probation.has_passed(A, ORT)


class TestStart:
    def test_what_is_no_longer_in_the_store_is_forgotten(
        self, directory: Path, probation: Probation
    ):
        probation.note_passed(A, "gate", 3, ORT)
        probation.note_passed(B, "gate", 4, ORT)
        fresh = again(directory, has_crashed=True, known=(A,))
        assert set(fresh.all()) == {A}
        assert [path.name for path in directory.iterdir()] == [f"{A}.json"]

    def test_what_did_harm_is_remembered_without_its_bundle(
        self, directory: Path, probation: Probation, monkeypatch: pytest.MonkeyPatch
    ):
        probation.quarantine(A, "gate", 3, "why")
        probation.quarantine(B, "gate", 4, "why")
        with pytest.raises(QuarantinedError):
            again(directory, has_crashed=False, known=()).admit(A)
        monkeypatch.setattr("edged.store.probation._LOST_CAP", 1)
        fresh = again(directory, has_crashed=False, known=())
        assert len(fresh.all()) == 1, "the newest"

    def test_the_blamed_are_named(
        self, directory: Path, probation: Probation, caplog: pytest.LogCaptureFixture
    ):
        probation.begin(A, "gate", 3)
        probation.note_passed(B, "door", 1, ORT)
        again(directory, has_crashed=True)
        assert (
            "model gate release 3 was on probation when the daemon died (1 in a row)" in caplog.text
        )
        assert "door" not in caplog.text

    def test_strangers_in_the_directory_are_left_alone(self, directory: Path):
        directory.mkdir()
        for name in ("README", "x.json", f"{A}.json.bak", f".{A}.json.tmp", f"{'G' * 64}.json"):
            (directory / name).write_text("{}")
        fresh = again(directory, has_crashed=True, known=())
        assert fresh.all() == {}
        assert len(list(directory.iterdir())) == 5


class TestAttempts:
    """What ends later belongs to the load that it was about."""

    def test_the_end_of_an_older_window_says_nothing_of_a_newer_load(self, probation: Probation):
        probation.begin(A, "gate", 3)
        first = probation.attempt(A)
        probation.begin(A, "gate", 3)
        for act in (probation.survived, probation.release_unharmed):
            act(A, first)
            assert probation.get(A).is_on_probation
        probation.survived(A, probation.attempt(A))
        assert not probation.get(A).is_on_probation

    def test_one_taken_out_early_is_blamed_for_nothing_and_has_proven_nothing(
        self, directory: Path, probation: Probation
    ):
        probation.begin(A, "gate", 3)
        probation = again(directory, has_crashed=True)
        probation.begin(A, "gate", 3)
        probation.release_unharmed(A, probation.attempt(A))
        assert again(directory, has_crashed=True).get(A).deaths == 1

    def test_of_each_digest_alone(self, probation: Probation):
        assert probation.attempt(A) == 0
        for digest in (A, B, A):
            probation.begin(digest, "gate", 3)
        assert (probation.attempt(A), probation.attempt(B)) == (2, 1)


class TestCondemned:
    def test_holds_before_it_is_written(self, directory: Path, probation: Probation):
        probation.begin(A, "gate", 3)
        probation.condemn(A, "gate", 3, "its workers die")
        with pytest.raises(QuarantinedError, match="its workers die"):
            probation.admit(A)
        assert Probation(directory).get(A).quarantine is None
        probation.write_condemned()
        assert Probation(directory).get(A) == Standing(
            model="gate", release=3, quarantine=Quarantine(reason="its workers die", at=1000)
        )

    def test_waits_for_nothing_while_another_thread_waits_for_the_disk(self, probation: Probation):
        with probation._mutex:
            thread = threading.Thread(target=probation.condemn, args=(A, "gate", 3, "why"))
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
            assert probation.get(A).quarantine is not None

    def test_it_holds_while_it_is_being_written(self, probation: Probation, monkeypatch):
        """The disk was read before another thread wrote, and what is to be written after."""
        probation.condemn(A, "gate", 3, "its workers die")
        read = probation._read

        def slowly(digest: str) -> Standing:
            found = read(digest)
            probation.write_condemned()
            return found

        monkeypatch.setattr(probation, "_read", slowly)
        assert probation.get(A).quarantine is not None
        assert probation.get(A).quarantine is not None, "from the disk"

    def test_lifted_before_it_was_written(self, probation: Probation):
        probation.condemn(A, "gate", 3, "why")
        probation.lift(A)
        probation.write_condemned()
        probation.admit(A)


class TestWear:
    """Each write is two syncs of a flash."""

    def count(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        writes, fsync = [], os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (writes.append(fd), fsync(fd))[1])
        return writes

    def test_what_is_there_already_is_not_written_again(
        self, probation: Probation, monkeypatch: pytest.MonkeyPatch
    ):
        writes = self.count(monkeypatch)
        for _ in range(5):
            probation.begin(A, "gate", 3)
            probation.note_passed(A, "gate", 3, ORT)
        assert len(writes) == 5, "the folder; a write for being on probation and one for the trial"

    def test_what_the_disk_did_not_take_is_tried_again(
        self, directory: Path, probation: Probation, monkeypatch: pytest.MonkeyPatch
    ):
        def refuse(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            probation.begin(A, "gate", 3)
        probation.begin(A, "gate", 3)
        assert Probation(directory).get(A).is_on_probation


DAMAGE: dict[str, bytes] = {
    "empty": b"",
    "cut off": b'{"model":"gate","rel',
    "not json": b"\0" * 100,
    "not utf-8": b'{"model":"\xff\xfe"}',
    "a list": b"[]",
    "other types": b'{"deaths":"many"}',
    "deep": b'{"x":' + b"[" * 60_000,
    "too long": b'{"model":"' + b"g" * 70_000 + b'"}',
}


class TestDisk:
    def test_files_and_folder_are_the_daemon_s_alone(self, directory: Path, probation: Probation):
        before = os.umask(0)
        try:
            probation.begin(A, "gate", 3)
        finally:
            os.umask(before)
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()] == [0o600]

    @pytest.mark.parametrize("name", DAMAGE)
    def test_a_damaged_file_is_nothing_known(self, directory: Path, name: str):
        directory.mkdir()
        (directory / f"{A}.json").write_bytes(DAMAGE[name])
        fresh = again(directory, has_crashed=True)
        fresh.admit(A)
        assert fresh.get(A) == Standing()
        fresh.note_passed(A, "gate", 3, ORT)
        assert again(directory, has_crashed=False).has_passed(A, ORT)

    def test_fields_of_a_newer_version_are_passed_over(self, directory: Path):
        directory.mkdir()
        (directory / f"{A}.json").write_bytes(b'{"model":"gate","deaths":1,"mood":"good"}')
        assert Probation(directory).get(A) == Standing(model="gate", deaths=1)

    def test_a_folder_in_the_place_of_a_file(
        self, directory: Path, caplog: pytest.LogCaptureFixture
    ):
        (directory / f"{A}.json").mkdir(parents=True)
        fresh = again(directory, has_crashed=True)
        fresh.begin(A, "gate", 3)
        assert "not noted on disk" in caplog.text

    def test_a_link_is_not_written_through(self, directory: Path, tmp_path: Path):
        directory.mkdir()
        (tmp_path / "victim").write_text("mine")
        (directory / f".{A}.json.{os.getpid()}.tmp").symlink_to(tmp_path / "victim")
        Probation(directory).begin(A, "gate", 3)
        assert (tmp_path / "victim").read_text() == "mine"

    @pytest.mark.parametrize("fails", ["open", "fsync"])
    def test_a_disk_that_takes_no_note(
        self,
        directory: Path,
        probation: Probation,
        fails: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ):
        """Models load all the same; and what this process knows holds for its life."""
        probation.note_passed(B, "door", 1, ORT)

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        with monkeypatch.context() as patch:
            patch.setattr(os, fails, refuse)
            probation.begin(A, "gate", 3)
            probation.note_passed(A, "gate", 3, ORT)
            assert probation.has_passed(A, ORT)
            for digest in (A, B):
                probation.quarantine(digest, "gate", 3, "why")
                with pytest.raises(QuarantinedError):
                    probation.admit(digest)
        assert "not noted on disk: Read-only file system" in caplog.text
        assert Probation(directory).get(A) == Standing()

    def test_a_directory_that_is_a_file(self, directory: Path, probation: Probation):
        directory.write_text("")
        probation.start(has_crashed=True, known=())
        assert probation.all() == {}
        probation.begin(A, "gate", 3)
        probation.admit(A)

    def test_a_write_is_whole_or_not_at_all(
        self, directory: Path, probation: Probation, monkeypatch: pytest.MonkeyPatch
    ):
        """Cut off after the temporary file: the next start reads what was there before."""
        probation.note_passed(A, "gate", 3, ORT)

        def cut_off(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", cut_off)
            with pytest.raises(KeyboardInterrupt):
                probation.quarantine(A, "gate", 3, "why")
        assert Probation(directory).get(A) == Standing(model="gate", release=3, passed=(ORT,))

    def test_is_written_before_begin_returns(self, directory: Path, probation: Probation):
        probation.begin(A, "gate", 3)
        standing = msgspec.json.decode((directory / f"{A}.json").read_bytes(), type=Standing)
        assert standing.is_on_probation

    @pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 65])
    def test_a_digest_never_leads_elsewhere(self, probation: Probation, digest: str):
        acts: list[Callable[[], object]] = [
            lambda: probation.get(digest),
            lambda: probation.begin(digest, "gate", 3),
            lambda: probation.lift(digest),
        ]
        for act in acts:
            with pytest.raises(Exception, match="digest"):
                act()

    def test_two_threads(self, directory: Path, probation: Probation):
        """The loader's and the one that notes survivors: each change is there at the end."""

        def work(number: int) -> None:
            for version in range(20):
                probation.note_passed(f"{number}" * 64, "gate", number, f"o {version}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        fresh = Probation(directory).all()
        assert [one.passed[-1] for one in fresh.values()] == ["o 19"] * 4
        assert len(list(directory.iterdir())) == 4

    def test_two_threads_and_one_release(self, directory: Path, monkeypatch: pytest.MonkeyPatch):
        """One stands between reading and writing while the other changes the same standing."""
        probation = Probation(directory)
        between, go_on = threading.Event(), threading.Event()
        put = Probation._put

        def slow_put(self: Probation, digest: str, standing: Standing) -> None:
            if not between.is_set():
                between.set()
                assert go_on.wait(30)
            put(self, digest, standing)

        monkeypatch.setattr(Probation, "_put", slow_put)
        first = threading.Thread(target=probation.note_passed, args=(A, "gate", 3, ORT))
        second = threading.Thread(target=probation.begin, args=(A, "gate", 3))
        first.start()
        assert between.wait(30)
        second.start()
        second.join(0.2)  # it would be done by now if nothing held it back
        go_on.set()
        for thread in (first, second):
            thread.join(30)
        standing = Probation(directory).get(A)
        assert (standing.passed, standing.is_on_probation) == ((ORT,), True)
