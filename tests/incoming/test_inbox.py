"""The inbox: what is dropped is taken in, waits, or is moved aside with its reason; once each."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edged.errors import ApplyError, SignatureError
from edged.incoming.inbox import AGAIN, REFUSED, TAKEN, Inbox, Settled, is_unwritten
from edged.incoming.installing import NoPlaceError
from tests.bundles import make_bundle
from tests.models import double

SECOND = 10**9
QUIET = 10 * SECOND


@dataclass
class Device:
    """Takes in what is dropped, or says why not."""

    folder: Path
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    error: Exception | None = None

    def bundle(self, path: Path) -> str:
        if self.error is not None:
            raise self.error
        self.taken.append((path.name, path.read_bytes()))
        return f"{path.name} is in"

    def inbox(self) -> Inbox:
        return Inbox(self.folder, (), QUIET, self.bundle, self.bundle)

    def names(self, folder: str = ".") -> list[str]:
        return sorted(one.name for one in (self.folder / folder).iterdir() if not one.is_dir())


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool | None], None]:
    def say(is_free: bool | None) -> None:
        monkeypatch.setattr("edged.incoming.inbox.is_unwritten", lambda _path: is_free)

    say(True)
    return say


@pytest.mark.usefixtures("free")
class TestTaken:
    def test_and_gone(self, device: Device) -> None:
        inbox = device.inbox()
        inbox.start()
        (device.folder / "m-1.edgb").write_bytes(b"one")
        (device.folder / "site.trust").write_bytes(b"two")
        (device.folder / "a.txt").write_bytes(b"not ours")
        (device.folder / ".m-2.edgb.part").write_bytes(b"not yet")
        (device.folder / ".m-3.edgb").write_bytes(b"not yet")
        assert inbox.look(0, (), retry=False)
        assert device.taken == [("m-1.edgb", b"one"), ("site.trust", b"two")]
        assert device.names() == [".m-2.edgb.part", ".m-3.edgb", "a.txt"]
        assert device.names(TAKEN) == device.names(REFUSED) == []
        assert (inbox.tally.installed, inbox.tally.waiting) == (2, 0)
        assert inbox.tally.last == "site.trust: site.trust is in"
        assert not inbox.look(1, (), retry=True)

    def test_not_while_somebody_writes(self, device: Device, free: Callable[..., None]) -> None:
        inbox = device.inbox()
        (device.folder / "m-1.edgb").write_bytes(b"half")
        free(False)
        for second in range(0, 10_000, 100):
            assert not inbox.look(second * SECOND, (), retry=True)
        assert inbox.tally.waiting == 1
        free(None)
        assert not inbox.look(10_000 * SECOND, ("m-1.edgb",), retry=True)
        free(True)
        assert inbox.look(10_000 * SECOND, ("m-1.edgb",), retry=True)

    def test_after_a_quiet_time_where_nobody_knows(
        self, device: Device, free: Callable[..., None]
    ) -> None:
        free(None)
        inbox = device.inbox()
        file = device.folder / "m-1.edgb"
        file.write_bytes(b"h")
        assert not inbox.look(0, (), retry=True)
        assert not inbox.look(9 * SECOND, (), retry=True)
        file.write_bytes(b"half")
        assert not inbox.look(12 * SECOND, (), retry=True)
        assert not inbox.look(21 * SECOND, (), retry=True)
        assert inbox.look(22 * SECOND, (), retry=True)
        assert device.taken == [("m-1.edgb", b"half")]


@pytest.mark.usefixtures("free")
class TestRefused:
    def test_is_moved_aside_with_its_reason_and_never_tried_again(self, device: Device) -> None:
        inbox = device.inbox()
        device.error = SignatureError("signed by a stranger")
        (device.folder / "m-1.edgb").write_bytes(b"x")
        for moment in range(5):
            assert not inbox.look(moment, (), retry=True)
        assert device.names(REFUSED) == ["m-1.edgb", "m-1.edgb.txt"]
        assert (device.folder / REFUSED / "m-1.edgb.txt").read_text() == "signed by a stranger\n"
        assert (device.names(), device.names(TAKEN)) == ([], [])
        assert (inbox.tally.refused, inbox.tally.installed, inbox.tally.waiting) == (1, 0, 0)
        assert inbox.tally.last == "m-1.edgb is refused: signed by a stranger"
        (device.folder / "m-1.edgb").write_bytes(b"y")
        inbox.look(9, (), retry=True)
        assert (device.folder / REFUSED / "m-1.edgb").read_bytes() == b"y"

    @pytest.mark.parametrize("kind", ["link", "pipe", "folder", "dangling"])
    def test_what_is_no_file(self, device: Device, tmp_path: Path, kind: str) -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"secret")
        path = device.folder / "m-1.edgb"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
            (path / "x").write_bytes(b"x")
        else:
            path.symlink_to(outside if kind == "link" else tmp_path / "nowhere")
        inbox = device.inbox()
        for _ in range(2):
            assert not inbox.look(0, (), retry=True)
        assert not device.taken
        assert inbox.tally.refused == 1
        said = (device.folder / REFUSED / "m-1.edgb.txt").read_text()
        assert said.startswith("is not a regular file")
        assert outside.read_bytes() == b"secret"

    def test_what_is_exchanged_at_the_last_moment(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inbox = device.inbox()
        path = device.folder / "m-1.edgb"
        path.write_bytes(b"x")

        def exchange(_path: Path) -> bool:
            path.unlink()
            os.mkfifo(path)
            return True

        monkeypatch.setattr("edged.incoming.inbox.is_unwritten", exchange)
        assert not inbox.look(0, (), retry=True)
        assert inbox.tally.last.startswith("m-1.edgb is refused: is not a regular file")

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others, which root alone may")
    def test_what_belongs_to_somebody_else(self, device: Device) -> None:
        for name, owner in (("a.edgb", 1234), ("b.edgb", 1235), ("c.edgb", 0)):
            (device.folder / name).write_bytes(b"x")
            os.chown(device.folder / name, owner, 0)
        inbox = Inbox(device.folder, {1235}, QUIET, device.bundle, device.bundle)
        inbox.look(0, (), retry=True)
        assert [name for name, _ in device.taken] == ["b.edgb", "c.edgb"]
        assert "belongs to user id 1234" in inbox.tally.last or inbox.tally.refused == 1

    def test_only_so_many_are_kept(self, device: Device) -> None:
        inbox = device.inbox()
        device.error = SignatureError("no")
        for number in range(40):
            (device.folder / f"m-{number}.edgb").write_bytes(b"x")
            inbox.look(number, (), retry=True)
        kept = {name.removesuffix(".txt") for name in device.names(REFUSED)}
        assert len(kept) == 32
        assert "m-39.edgb" in kept
        assert len(device.names(REFUSED)) == 64

    def test_what_cannot_be_moved_is_told_once(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inbox = device.inbox()
        (device.folder / "m-1.edgb").symlink_to("nowhere")

        def fail(*_words: object) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr(Path, "rename", fail)
        for moment in range(3):
            inbox.look(moment, (), retry=True)
        assert inbox.tally.refused == 1

    @pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY])
    def test_a_bundle_that_cannot_be_taken_holds_up_no_other(
        self, device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
        code: int,
    ) -> None:  # fmt: skip
        """An immutable file, say, or one of somebody else in a sticky folder."""
        inbox, rename = device.inbox(), Path.rename

        def fail(path: Path, target: Path) -> Path:
            if path.name == "a-1.edgb":
                raise OSError(code, os.strerror(code))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)
        for name in ("a-1.edgb", "m-1.edgb"):
            (device.folder / name).write_bytes(b"x")
        assert inbox.look(0, (), retry=True)
        assert (device.taken, inbox.tally.waiting) == ([("m-1.edgb", b"x")], 1)
        assert "a-1.edgb cannot be taken: " in caplog.text
        assert not inbox.look(1, (), retry=True)
        assert caplog.text.count("cannot be taken") == 1, "told once"
        monkeypatch.undo()
        (device.folder / "a-1.edgb").write_bytes(b"xx")
        monkeypatch.setattr("edged.incoming.inbox.is_unwritten", lambda _path: True)
        assert inbox.look(2, (), retry=True), "once it is another"

    def test_a_folder_out_of_which_nothing_can_be_taken_is_told_as_such(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_words: object) -> None:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

        inbox = device.inbox()
        (device.folder / "m-1.edgb").write_bytes(b"x")
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(ApplyError, match="cannot be used: Permission denied"):
            inbox.look(0, (), retry=True)

    def test_one_that_is_taken_away_at_the_last_moment_holds_up_no_other(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def is_unwritten(path: Path) -> bool:
            if path.name == "a-1.edgb":
                path.unlink()
            return True

        monkeypatch.setattr("edged.incoming.inbox.is_unwritten", is_unwritten)
        for name in ("a-1.edgb", "m-1.edgb"):
            (device.folder / name).write_bytes(b"x")
        assert device.inbox().look(0, (), retry=True)


@pytest.mark.usefixtures("free")
class TestMany:
    """More than a turn looks at."""

    def stuck(self, device: Device, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        """Links that cannot be moved aside, all before the bundles by their names."""
        for number in range(count):
            (device.folder / f"a{number:04}.edgb").symlink_to("nowhere")
        rename = Path.rename

        def fail(path: Path, target: Path) -> Path:
            if path.name.startswith("a"):
                raise OSError(1, "Operation not permitted")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)

    def test_those_that_cannot_be_moved_hold_up_nobody(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stuck(device, monkeypatch, 600)
        inbox = device.inbox()
        (device.folder / "m-1.edgb").write_bytes(b"x")
        turns = [inbox.look(moment, (), retry=True) for moment in range(6)]
        assert turns == [False, False, True, False, False, False]
        assert (inbox.tally.refused, inbox.tally.waiting) == (600, 600), "each told once"

    def test_those_that_never_get_complete_hold_up_nobody(
        self, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "edged.incoming.inbox.is_unwritten",
            lambda path: None if path.name == "m-1.edgb" else False,
        )
        for number in range(300):
            (device.folder / f"a{number:04}.edgb").write_bytes(b"x")
        (device.folder / "m-1.edgb").write_bytes(b"x")
        inbox, found = device.inbox(), 0
        for second in range(20):
            found += inbox.look(second * SECOND, (), retry=True)
        assert found == 1, "and how long it has been the same is known over the turns"


@pytest.mark.usefixtures("free")
class TestWaits:
    """A device that is full or read-only holds nothing against a file."""

    def test_for_room(self, device: Device) -> None:
        inbox = device.inbox()
        inbox.start()
        device.error = NoPlaceError("no room")
        (device.folder / "m-1.edgb").write_bytes(b"x")
        assert not inbox.look(0, (), retry=True)
        assert inbox.tally.problem == "m-1.edgb has to wait: no room"
        device.error = AssertionError("asked again too soon")
        assert not inbox.look(1, (), retry=False)
        assert (inbox.tally.waiting, bool(inbox.tally.problem)) == (1, True)
        device.error = None
        assert inbox.look(2, (), retry=True)
        assert (inbox.tally.waiting, inbox.tally.problem) == (0, "")
        assert inbox.tally.refused == 0

    def test_for_a_device_that_has_run_out_of_something(self, device: Device) -> None:
        device.error = ApplyError("it cannot be kept: No space left on device")
        (device.folder / "site.trust").write_bytes(b"x")
        inbox = device.inbox()
        inbox.look(0, (), retry=True)
        assert (device.names(TAKEN), device.names(REFUSED)) == (["site.trust"], [])
        assert "has to wait: it cannot be kept" in inbox.tally.problem

    def test_over_restarts(self, device: Device) -> None:
        device.error = NoPlaceError("no room")
        (device.folder / "m-1.edgb").write_bytes(b"x")
        for _ in range(4):
            inbox = device.inbox()
            inbox.start() if (device.folder / TAKEN).exists() else None
            inbox.look(0, (), retry=True)
        device.error = None
        inbox = device.inbox()
        inbox.start()
        assert inbox.look(0, (), retry=True)


@pytest.mark.usefixtures("free")
class TestKilled:
    def test_is_tried_once_more_and_not_again(self, device: Device) -> None:
        device.inbox().start()
        (device.folder / TAKEN / "m-1.edgb").write_bytes(b"x")
        device.inbox().start()  # and killed
        assert device.names(TAKEN) == [f"m-1.edgb{AGAIN}"]
        inbox = device.inbox()
        inbox.start()
        assert inbox.tally.refused == 1
        assert "ended twice" in (device.folder / REFUSED / "m-1.edgb.txt").read_text()

    def test_the_second_time_it_is_well(self, device: Device) -> None:
        device.inbox().start()
        (device.folder / TAKEN / "m-1.edgb").write_bytes(b"x")
        inbox = device.inbox()
        inbox.start()
        assert inbox.look(0, (), retry=True)
        assert device.names(TAKEN) == []


POINTS = (
    "inbox.started", "inbox.taken", "install.copied", "install.verified", "install.named",
    "inbox.delivered",
)  # fmt: skip
LOOK = """
import sys; from pathlib import Path
from edged.incoming.inbox import Inbox; from edged.incoming.installing import install
box = Path(sys.argv[1])
inbox = Inbox(box / "inbox", (), 0, lambda path: install(box / "edged.yaml", path), str)
inbox.start()
inbox.look(0, (), retry=True)
print(inbox.tally.refused, inbox.tally.waiting)
"""


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_step(tmp_path: Path, point: str) -> None:
    """Whatever ends it, the next daemon has the bundle installed, once, and nothing is left."""
    for name in ("inbox", "bundles", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "edged.yaml").write_text(
        f"state_dir: {tmp_path}/state\ntrust: {{require_signatures: false}}\n"
        "models:\n  m: {bundle: 'bundles/m-*.edgb'}\n"
    )
    data = make_bundle(tmp_path / "inbox/any.edgb", double(), name="m", release=1).read_bytes()
    command = [sys.executable, "-c", LOOK, str(tmp_path)]
    environment = {name: word for name, word in os.environ.items() if name != "STATE_DIRECTORY"}
    killed = subprocess.run(command, env={**environment, "EDGED_FAULT_AT": point}, check=False)
    assert killed.returncode == 137
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "0 0\n", done.stderr
    assert (tmp_path / "bundles/m-1.edgb").read_bytes() == data
    left = [one for one in (tmp_path / "inbox").rglob("*") if not one.is_dir()]
    assert left == []
    assert [one.name for one in (tmp_path / "bundles").iterdir()] == ["m-1.edgb"]


class TestFolder:
    def test_that_all_may_write_to(self, device: Device) -> None:
        device.folder.chmod(0o777)
        for work in (device.inbox().start, lambda: device.inbox().look(0, (), retry=True)):
            with pytest.raises(ApplyError, match="can be written by every user"):
                work()

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to others, which root alone may")
    def test_of_a_stranger(self, device: Device) -> None:
        os.chown(device.folder, 1234, 0)
        with pytest.raises(ApplyError, match="belongs to user id 1234"):
            device.inbox().start()

    def test_that_is_not_there(self, device: Device) -> None:
        device.folder = device.folder / "none"
        with pytest.raises(ApplyError, match="cannot be used: No such file"):
            device.inbox().start()

    def test_with_a_link_where_ours_should_be(self, device: Device, tmp_path: Path) -> None:
        (device.folder / TAKEN).symlink_to(tmp_path)
        with pytest.raises(ApplyError, match="is no folder"):
            device.inbox().start()

    @pytest.mark.parametrize("name", [TAKEN, REFUSED])
    def test_with_one_of_somebody_elses_where_ours_should_be(
        self, device: Device, name: str
    ) -> None:
        (device.folder / name).mkdir()
        (device.folder / name).chmod(0o777)
        with pytest.raises(ApplyError, match="written by others than the daemon's user; remove it"):
            device.inbox().look(0, (), retry=True)

    def test_ours_stay_where_they_are_while_they_are_exchanged(
        self, device: Device, free: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        """Whoever owns the folder may, at any moment; the state is not theirs to overwrite."""
        free(True)
        state = tmp_path_factory.mktemp("state")
        (state / "m-1.edgb").write_bytes(b"installed")
        (device.folder / "m-1.edgb").write_bytes(b"bad")
        inbox = device.inbox()

        def exchange(_path: Path) -> str:
            (device.folder / REFUSED).rename(device.folder / "moved")
            (device.folder / REFUSED).symlink_to(state)
            raise SignatureError("signed by a stranger")

        inbox._deliver = dict.fromkeys(inbox._deliver, exchange)
        inbox.look(0, (), retry=True)
        assert (state / "m-1.edgb").read_bytes() == b"installed"
        assert [one.name for one in state.iterdir()] == ["m-1.edgb"]
        assert (device.folder / "moved" / "m-1.edgb.txt").read_text() == "signed by a stranger\n"

    def test_a_reason_is_written_into_no_file_of_others(
        self, device: Device, free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free(True)
        floor = device.folder / "floor.json"
        floor.write_text("kept")
        device.error = SignatureError("signed by a stranger")
        (device.folder / "m-1.edgb").write_bytes(b"bad")
        unlink = Path.unlink

        def and_again(path: Path, missing_ok: bool = False) -> None:
            unlink(path, missing_ok)
            if path.name.endswith(".txt"):
                path.symlink_to(floor)

        monkeypatch.setattr(Path, "unlink", and_again)
        device.inbox().look(0, (), retry=True)
        assert floor.read_text() == "kept"


class TestWriters:
    """What the kernel says of who has a file open."""

    def test_none(self, tmp_path: Path) -> None:
        file = tmp_path / "x"
        file.write_bytes(b"x")
        assert is_unwritten(file) in (True, None)
        if is_unwritten(file) is None:
            pytest.skip("this file system knows no leases")
        with file.open("ab"):
            assert is_unwritten(file) is False
        with file.open("rb"):
            assert is_unwritten(file) is True

    @pytest.mark.parametrize("kind", ["link", "none"])
    def test_of_what(self, tmp_path: Path, kind: str) -> None:
        if kind == "link":
            (tmp_path / "x").symlink_to(tmp_path)
        assert is_unwritten(tmp_path / "x") is None


def test_only_those_that_are_there_are_remembered() -> None:
    settled, stamp = Settled(), (1, 2, 3, 4)
    assert not settled.is_complete("a", stamp, 0, QUIET, None)
    settled.keep({"b"})
    assert not settled.is_complete("a", stamp, QUIET, QUIET, None)
    assert settled.is_complete("a", stamp, 2 * QUIET, QUIET, None)
