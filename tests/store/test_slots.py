"""Slots: names never leave their folder, links never lead anywhere else, swaps are whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edged.errors import BundleError
from edged.store import slots as module
from edged.store.slots import DIRECTORY_FLAGS, Slots, check_digest, check_model
from edged.store.unchanged import Unchanged

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "slots"
    path.mkdir()
    return path


@pytest.fixture
def slots(folder: Path):
    fd = os.open(folder, DIRECTORY_FLAGS)
    yield Slots(fd)
    os.close(fd)


def test_swap_keeps_the_one_before(slots: Slots):
    assert slots.read("gate") == (None, None)
    slots.swap("gate", A, None)
    assert slots.read("gate") == (A, None)
    slots.swap("gate", B, A)
    assert slots.read("gate") == (B, A)
    assert slots.models() == ["gate"]


def test_each_model_s_folder_is_synced_once(
    slots: Slots, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also one that a killed run has left, which no disk may know of yet."""
    (folder / "left").mkdir()
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd))[1])

    def syncs_of_the_parent(model: str) -> int:
        synced.clear()
        slots.swap(model, A, B)
        return synced.count(slots._fd)

    assert [syncs_of_the_parent(m) for m in ("left", "left", "gate", "gate")] == [1, 0, 1, 0]


def test_a_sync_that_failed_is_done_again(slots: Slots, monkeypatch: pytest.MonkeyPatch):
    slots.swap("gate", A, None)

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input"):
            slots.swap("door", A, None)
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), fsync(fd))[1])
    slots.swap("door", A, None)
    assert slots._fd in synced


def test_restore(slots: Slots, folder: Path):
    slots.swap("gate", B, A)
    (folder / "gate" / ".current-0123").symlink_to("leftover")
    slots.restore("gate", A, None)
    assert slots.read("gate") == (A, None)
    assert [path.name for path in (folder / "gate").iterdir()] == ["current"]


def test_restore_on_a_full_disk(slots: Slots, monkeypatch: pytest.MonkeyPatch):
    """A box whose disk is full starts with what it has: the one behind takes no room."""
    slots.swap("gate", B, A)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "symlink", refuse)
    assert not slots.restore("gate", B, C)
    assert slots.read("gate") == (B, A)
    assert slots.restore("gate", A, None)
    assert slots.read("gate") == (A, None)
    with pytest.raises(OSError, match="No space"):
        slots.restore("gate", C, None)
    monkeypatch.undo()
    assert slots.restore("gate", A, C)
    assert slots.read("gate") == (A, C)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "gate\n", ".hidden", "-x", "x" * 65, "ü", "a b"],
)
@pytest.mark.hostile("R11 a model name is a key and never a path")
def test_hostile_model_name(slots: Slots, folder: Path, name: str):
    for act in (check_model, slots.read, lambda n: slots.swap(n, A, None)):
        with pytest.raises(BundleError, match="not a model's name"):
            act(name)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("digest", ["", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_hostile_digest(slots: Slots, digest: str):
    with pytest.raises(BundleError, match="digest"):
        check_digest(digest)
    with pytest.raises(BundleError, match="digest"):
        slots.swap("gate", digest, None)


@pytest.mark.parametrize(
    "target", ["/etc", "../../store/../x", f"../../store/{A}/..", A, "x" * 300]
)
@pytest.mark.hostile("R19 containment is proven by opening")
def test_link_that_leads_elsewhere_counts_as_nothing(slots: Slots, folder: Path, target: str):
    (folder / "gate").mkdir()
    (folder / "gate" / "current").symlink_to(target)
    assert slots.read("gate") == (None, None)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_slot_that_is_no_folder(slots: Slots, folder: Path, tmp_path: Path, kind: str):
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        (folder / "gate").symlink_to(tmp_path / "elsewhere")
    else:
        (folder / "gate").write_text("")
    assert slots.read("gate") == (None, None)
    with pytest.raises(NotADirectoryError):
        slots.swap("gate", A, None)
    assert kind == "file" or not list((tmp_path / "elsewhere").iterdir())


@pytest.fixture
def rested(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """As if every folder had been at rest for long."""
    monkeypatch.setattr(module, "Unchanged", lambda: Unchanged(now_ns=lambda: 2**62))
    fd = os.open(folder, DIRECTORY_FLAGS)
    slots = Slots(fd)
    slots.swap("gate", B, A)
    assert (slots.read("gate"), slots.held("gate")) == ((B, A), {A, B})
    yield slots
    os.close(fd)


def test_a_folder_that_did_not_change_is_not_opened(
    rested: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", None)
    assert (rested.read("gate"), rested.held("gate")) == ((B, A), {A, B})


@pytest.mark.parametrize("how", ["by swap", "by hand", "gone", "no link", "a link of the folder"])
def test_one_that_did_is(rested: Slots, folder: Path, tmp_path: Path, how: str) -> None:
    current = folder / "gate/current"
    expected: tuple[str | None, str | None] = (C, B if how == "by swap" else A)
    if how == "by swap":
        rested.swap("gate", C, B)
    elif how == "by hand":
        current.unlink()
        current.symlink_to("../../store/" + C)
    elif how == "a link of the folder":
        (folder / "gate").rename(tmp_path / "aside")
        (folder / "gate").symlink_to(tmp_path / "aside")
        expected = (None, None)
    else:
        current.unlink()
        expected = (None, A)
        if how == "no link":
            current.write_text(B)
    assert rested.read("gate") == expected
    if how in ("no link", "a link of the folder"):
        with pytest.raises(OSError):
            rested.held("gate")
