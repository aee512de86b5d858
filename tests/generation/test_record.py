"""What is noted on disk: a power cut between any two steps leaves the old or the new, wholly."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from edged.config.problems import ConfigProblemsError
from edged.errors import BundleError, EdgedError
from edged.generation import record as module
from edged.generation.record import (
    DEFAULT_STATE_DIR,
    Record,
    do_all,
    find_state_dir,
    load_for_boot,
    load_last_good,
    write_atomically,
)
from edged.serving.dataplane import ServingTable
from edged.serving.lifecycle import ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.store.repository import Repository
from tests.fakes.site import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return Site(tmp_path)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    state = tmp_path / "state"
    state.mkdir()
    return Record(state, Repository(state))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edged.generation.record import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5))
try:
    write_atomically(Path(sys.argv[1]), b"more than five bytes")
except OSError as exc:
    print(exc.strerror)
"""


def note(record: Record, tmp_path: Path, content: bytes) -> int:
    (tmp_path / "state/generation.json").write_bytes(content)
    return record.next_generation("new")


class TestGeneration:
    def test_a_digest_keeps_its_number(self, record: Record) -> None:
        assert [record.next_generation(digest) for digest in "aabba"] == [1, 1, 2, 2, 3]

    def test_none_is_given_twice_while_files_cannot_be_opened(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record.next_generation("a")
        with monkeypatch.context() as short:

            def fail(_path: Path) -> bytes:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

            short.setattr(Path, "read_bytes", fail)
            with pytest.raises(OSError, match="Too many open files"):
                record.next_generation("b")
        assert record.next_generation("b") == 2

    def test_a_start_that_cannot_note_one_has_one_above_all_others(
        self, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert record.first_generation("a") == (1, "")
        record.next_generation("b")
        again = Record(tmp_path / "state", Repository(tmp_path / "state"))
        with monkeypatch.context() as full:

            def fail(*_: Any) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            full.setattr(module, "write_atomically", fail)
            assert again.first_generation("b") == (2, "")
            assert again.first_generation("c") == (3, "No space left on device")
        assert again.next_generation("d") == 4

    def test_it_survives_a_restart(self, record: Record, tmp_path: Path) -> None:
        record.next_generation("a")
        again = Record(tmp_path / "state", Repository(tmp_path / "state"))
        assert again.next_generation("a") == 1
        assert again.next_generation("b") == 2

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"{}",
            b'{"generation": 7}',
            b'{"generation": "many", "digest": "x"}',
            b'{"generation": 1e999, "digest": "x"}',
            b'{"generation": NaN, "digest": "x"}',
            b'{"generation": -5, "digest": "x"}',
            b'{"generation": 0, "digest": "new"}',
            b'{"generation": -1, "digest": "new"}',
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"generation": 99999999999999999999999, "digest": "new"}',
        ],
    )
    def test_a_file_that_went_bad_starts_over(
        self, record: Record, tmp_path: Path, content: bytes
    ) -> None:
        assert note(record, tmp_path, content) == 1
        assert record.next_generation("new") == 1

    def test_a_place_that_cannot_be_written_uses_no_number(
        self, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record.next_generation("a")

        def refuse(*_: Any, **__: Any) -> int:
            raise OSError(30, "Read-only file system")

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(OSError, match="Read-only"):
                record.next_generation("b")
            assert record.next_generation("a") == 1, "nothing has to be written for this one"
        assert record.next_generation("b") == 2


class TestWriteAtomically:
    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failure_before_the_rename_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        path = tmp_path / "note"
        write_atomically(path, b"old")

        def fail(*_: Any, **__: Any) -> int:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path if step == "replace" else os, step, fail)
            with pytest.raises(OSError, match="Input/output"):
                write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert [one.name for one in tmp_path.iterdir()] == ["note"], "nothing is left behind"
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """The kernel takes a part of the bytes and refuses the rest."""
        path = tmp_path / "note"
        write_atomically(path, b"old")
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "File too large\n"
        assert path.read_bytes() == b"old"
        assert [one.name for one in tmp_path.iterdir()] == ["note"]

    def test_file_and_folder_are_synced_in_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        sync, replace = os.fsync, Path.replace

        def fsync(fd: int) -> None:
            steps.append("folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file")
            sync(fd)

        def swap(self: Path, target: Path) -> Path:
            steps.append("rename")
            return replace(self, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", swap)
        write_atomically(tmp_path / "note", b"x")
        assert steps == ["file", "rename", "folder"]

    @pytest.mark.hostile("R33 state files are the owner's alone")
    def test_others_cannot_read_it(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "note", b"x")
        assert (tmp_path / "note").stat().st_mode & 0o777 == 0o600


class TestFindStateDir:
    def find(self, site: Site, text: str | bytes) -> Path:
        site.config.write_bytes(text.encode() if isinstance(text, str) else text)
        return find_state_dir(site.config)

    def test_the_service_manager_goes_first(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", "/a/b:/c")
        assert self.find(site, "state_dir: /elsewhere\n") == Path("/a/b")
        monkeypatch.setenv("STATE_DIRECTORY", "")
        assert self.find(site, "state_dir: /elsewhere\n") == Path("/elsewhere")

    @pytest.mark.parametrize(
        "line",
        [
            "state_dir: /x/y",
            "state_dir: '/x/y'",
            'state_dir: "/x/y"',
            "state_dir: /x/y   # where it lies",
            "state_dir:    /x/y",
            "state_dir: /x/y\r",
            "state_dir: '/x/y' # quoted\r",
            '"state_dir": /x/y',
            "state_dir : /x/y",
        ],
    )
    @pytest.mark.parametrize("rest", ["models: {}\n", "models: [\n"], ids=["good", "broken"])
    def test_forms(self, site: Site, line: str, rest: str) -> None:
        text = f"# state_dir: /no\nlog: {{level: info}}\n{line}\n{rest}"
        assert self.find(site, text) == Path("/x/y")

    @pytest.mark.parametrize("path", ["/x/has space/y", "/x/#1/y", "/x/it's"])
    def test_odd_names_of_a_good_file(self, site: Site, path: str) -> None:
        assert self.find(site, f'state_dir: "{path}"\nmodels: {{}}\n') == Path(path)

    def test_a_relative_path_starts_at_the_file(self, site: Site) -> None:
        assert self.find(site, "state_dir: ../var\nmodels: {}\n") == site.directory.parent / "var"
        broken = self.find(site, "state_dir: ../var\nmodels: [\n")
        assert os.path.normpath(broken) == str(site.directory.parent / "var")

    def test_an_indented_line_is_something_else(self, site: Site) -> None:
        text = "models:\n  m:\n    state_dir: /no\nlog: [\n"
        assert self.find(site, text) == Path(DEFAULT_STATE_DIR)

    def test_a_drop_in_may_name_it(self, site: Site) -> None:
        """All files of the configuration count, whether they can be parsed or not."""
        (site.directory / "conf.d").mkdir()
        (site.directory / "conf.d/10-site.yaml").write_text("state_dir: /x/y\n")
        assert self.find(site, "models: {}\n") == Path("/x/y")
        assert self.find(site, "models: [\n") == Path("/x/y")
        assert find_state_dir(site.directory) == Path("/x/y")

    def test_a_file_that_others_can_write_is_not_asked(self, site: Site) -> None:
        """Or they would choose the last good configuration that is believed instead of it."""
        site.config.write_text("state_dir: /x/y\nmodels: {}\n")
        site.config.chmod(0o666)
        assert find_state_dir(site.config) == Path(DEFAULT_STATE_DIR)

    def test_a_directory_and_nothing_at_all(self, site: Site) -> None:
        assert find_state_dir(site.directory) == Path(DEFAULT_STATE_DIR)
        assert self.find(site, b"\xff\xfe\0") == Path(DEFAULT_STATE_DIR)
        assert self.find(site, "state_dir: /x\n") == Path("/x")
        assert find_state_dir(site.directory) == Path("/x")

    def test_the_default_of_a_good_file(self, site: Site) -> None:
        assert self.find(site, "models: {}\n") == Path(DEFAULT_STATE_DIR)


class TestLastGood:
    def test_kept_and_loaded_when_the_file_breaks(self, site: Site, record: Record) -> None:
        site.write("models: {}\n")
        record.keep(site.load())
        kept = site.config.read_bytes()
        snapshot, problems = load_for_boot(site.config, site.state)
        assert (problems, snapshot.digest) == ((), site.load().digest)
        site.config.write_text("models: [\n")
        snapshot, (problem,) = load_for_boot(site.config, site.state)
        assert "edged.yaml:" in problem
        assert snapshot.files == {"edged.yaml": kept}
        assert snapshot.root == site.directory
        assert load_last_good(site.state).digest == snapshot.digest

    @pytest.mark.parametrize("spoilt", ["all", "bytes", "index", "link"])
    def test_without_a_good_copy_the_file_s_problems_are_what_is_said(
        self, site: Site, record: Record, spoilt: str
    ) -> None:
        site.write("models: {}\n")
        record.keep(site.load())
        copies = site.state / "last-good"
        if spoilt == "all":
            shutil.rmtree(copies)
        elif spoilt == "link":
            (copies / "current").unlink()
        else:
            name = "0" if spoilt == "bytes" else "copy.json"
            (copies / "current" / name).write_text("{")
        site.config.write_text("models: [\n")
        with pytest.raises(ConfigProblemsError, match=r"edged\.yaml"):
            load_for_boot(site.config, site.state)
        with pytest.raises(EdgedError):
            load_last_good(site.state)


def test_numbers_are_written_as_json(record: Record, tmp_path: Path) -> None:
    record.next_generation("abc")
    document = json.loads((tmp_path / "state/generation.json").read_bytes())
    assert document == {"generation": 1, "digest": "abc"}


def test_each_note_is_tried_whatever_becomes_of_the_others():
    done: list[str] = []

    def fails() -> None:
        done.append("first")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        do_all([fails, lambda: done.append("second")])
    assert done == ["first", "second"]
    do_all([])


class Serving(ServedRelease):
    """One that serves and did before; nothing else is asked of it."""

    def __init__(self, model: str, digest: str) -> None:
        self.key = ReleaseKey(model, digest, "")

    @property
    def is_proven(self) -> bool:
        return True

    @property
    def answers(self) -> bool:
        return True


class Slots:
    """Repository's part of it; which models were written, and one that cannot be."""

    def __init__(self) -> None:
        self.current_of: dict[str, str] = {}
        self.good: list[str] = []
        self.broken = ""

    def current(self, model: str) -> str | None:
        return self.current_of.get(model)

    def activate(self, model: str, digest: str) -> None:
        if model == self.broken:
            raise BundleError("no room")
        self.current_of[model] = digest

    def mark_good(self, model: str, digest: str) -> None:
        self.good.append(f"{model}@{digest}")


class TestActivate:
    @pytest.fixture
    def slots(self) -> Slots:
        return Slots()

    @pytest.fixture
    def noted(self, tmp_path: Path, slots: Slots) -> Callable[..., list[str]]:
        """Notes what serves; returns what was written of it."""
        record = Record(tmp_path, cast("Repository", slots))

        def note(**serving: str) -> list[str]:
            slots.good.clear()
            routes = {name: Route(name, {1: Serving(name, one)}) for name, one in serving.items()}
            record.activate(ServingTable(1, routes))
            return list(slots.good)

        return note

    def test_only_what_is_another(self, noted: Callable[..., list[str]]) -> None:
        assert noted(a="1", b="1") == ["a@1", "b@1"]
        assert noted(a="1", b="1") == []
        assert noted(a="1", b="2") == ["b@2"]
        assert noted(a="1", b="1") == ["b@1"]

    def test_a_model_that_was_away_is_noted_again(
        self, noted: Callable[..., list[str]], slots: Slots
    ) -> None:
        """Its slots may have been removed meanwhile, as nobody needed them."""
        noted(a="1", b="1")
        noted(b="1")
        del slots.current_of["a"]
        assert noted(a="1", b="1") == ["a@1"]
        assert slots.current_of == {"a": "1", "b": "1"}

    def test_a_slot_that_was_lost_is_written_again(
        self, noted: Callable[..., list[str]], slots: Slots
    ) -> None:
        noted(a="1", b="1")
        del slots.current_of["a"]
        assert noted(a="1", b="1") == ["a@1"]
        assert slots.current_of == {"a": "1", "b": "1"}

    def test_what_failed_is_done_anew(self, noted: Callable[..., list[str]], slots: Slots) -> None:
        noted(a="1", b="1")
        slots.broken = "b"
        with pytest.raises(BundleError):
            noted(a="2", b="2")
        slots.broken = ""
        assert noted(a="1", b="1") == ["a@1", "b@1"]
        assert slots.current_of == {"a": "1", "b": "1"}
