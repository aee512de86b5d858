"""The last good copy: whole, or the one from before, at every step."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edged.config import saved
from edged.config.load import ConfigProblemsError, load_saved, save

MODELS = "trust: {require_signatures: false}\nmodels: {digits: {bundle: models/a.edgb}}\n"


@pytest.fixture
def keep(tmp_path: Path) -> Path:
    return tmp_path / "state" / "last-good"


def test_round_trip_keeps_bytes_digest_and_root(site, keep: Path) -> None:
    site.write("node: a # comment\n")
    site.write(MODELS, "conf.d/m.yaml")
    snapshot = site.load()
    save(snapshot, keep)
    site.write("broken: [")
    again = load_saved(keep)
    assert again.files == snapshot.files
    assert again.digest == snapshot.digest
    assert again.config == snapshot.config
    assert again.resolve("models/a.edgb") == site.root / "models/a.edgb"


@pytest.mark.hostile("R33 state files are the owner's alone")
def test_only_the_owner_may_read(site, keep: Path) -> None:
    site.write("node: a\n")
    save(site.load(), keep)
    for path in (keep, *keep.rglob("*")):
        if not path.is_symlink():
            wanted = 0o700 if path.is_dir() else 0o600
            assert stat.S_IMODE(path.stat().st_mode) == wanted


def test_saving_again(site, keep: Path) -> None:
    site.write("node: a\n")
    save(site.load(), keep)
    first = (keep / "current").readlink()
    save(site.load(), keep)
    assert (keep / "current").readlink() == first, "an equal copy is not written again"
    site.write("node: b\n")
    save(site.load(), keep)
    assert load_saved(keep).config.node == "b"
    assert len(list(keep.iterdir())) == 2, "one copy and the link"


def test_nothing_saved(keep: Path) -> None:
    with pytest.raises(ConfigProblemsError, match="holds no saved configuration"):
        load_saved(keep)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("0", b"node: evil\n"),
        ("0", b""),
        ("copy.json", b"{"),
        ("copy.json", b'{"root":"/","files":[]}'),
    ],
)
def test_damage_is_refused_and_repaired_by_the_next_save(site, keep, name, data) -> None:
    site.write("node: a\n")
    save(site.load(), keep)
    (keep / "current" / name).write_bytes(data)
    with pytest.raises(ConfigProblemsError, match="damaged"):
        load_saved(keep)
    save(site.load(), keep)
    assert load_saved(keep).config.node == "a"


STEPS = ("_write_file", "_write_copy", "_sync_directory", "_swap_link", "_remove_others")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("is_kill", [True, False])
def test_a_crash_at_any_step_leaves_old_or_new(
    site, keep: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bool, is_kill: bool
) -> None:
    """``is_kill``: no clean-up code runs either, as with kill -9."""
    site.write("node: a\n")
    save(site.load(), keep)
    site.write("node: b\n")
    original = getattr(saved, step)

    def crash(*args: object) -> None:
        if not before:
            original(*args)
        raise OSError(5, "crash")

    with monkeypatch.context() as patch:
        patch.setattr(saved, step, crash)
        if is_kill:
            patch.setattr(saved.shutil, "rmtree", lambda *_, **__: None)
            patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(OSError, match="crash"):
            save(site.load(), keep)
    try:
        assert load_saved(keep).config.node in ("a", "b")
    except ConfigProblemsError:
        pytest.fail("neither the old nor the new copy is there")
    save(site.load(), keep)
    assert load_saved(keep).config.node == "b"
