"""The engine cache: what it gives is what was kept; everything else is thrown out, unread."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edged.engines.cache import EngineCache, Kept, choose_victims, oldest_over
from edged.engines.entry import Record, entry_name
from edged.errors import LoadError
from edged.faults import VARIABLE
from tests.engines.test_entry import SOURCE
from tests.runtimes.test_engine import HOST, engine

ROOT = Path(__file__).resolve().parents[2]
OTHER = msgspec.structs.replace(SOURCE, bundle="cd" * 32)
OLDER = msgspec.structs.replace(HOST, tensorrt="10.0.1")
OLD_ENGINE = msgspec.structs.replace(
    engine(), fingerprint=msgspec.structs.replace(engine().fingerprint, host=OLDER)
)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines", 1 << 20)


def path_of(cache: EngineCache, source=SOURCE, host=HOST) -> Path:
    return cache._directory / entry_name(source, host)


def test_what_was_kept_is_found_by_another_life_of_the_daemon(cache):
    assert cache.find(SOURCE, HOST) == (None, "no engine was built for it on this device")
    size = cache.keep(SOURCE, engine(), "gate")
    again = EngineCache(cache._directory, 1 << 20)
    assert again.find(SOURCE, HOST) == (engine().encode(), "")
    [kept] = again.entries()
    assert (kept.record.model, kept.record.source, kept.size) == ("gate", SOURCE, size)
    assert path_of(cache).stat().st_mode & 0o777 == 0o600
    assert cache._directory.stat().st_mode & 0o777 == 0o700
    assert not cache.refused


def test_after_an_upgrade_the_old_one_is_not_used_and_the_reason_is_said(cache):
    cache.keep(SOURCE, OLD_ENGINE, "gate")
    found = cache.find(SOURCE, HOST)
    assert found.data is None
    assert "tensorrt 10.0.1 (here: 10.3.0)" in found.why
    assert cache.find(OTHER, HOST).why == "no engine was built for it on this device"
    assert not cache.refused


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _forged(path: Path) -> None:
    """A record that says what is asked for, over the bytes of somebody else's engine."""
    data = path.read_bytes()
    at = data.index(b'"float16"')
    path.write_bytes(data[:at] + b'"float32"' + data[at + 9 :])


def _of_another_device(path: Path) -> None:
    other = EngineCache(path.parent.parent / "other", 1 << 20)
    other.keep(SOURCE, engine(), "gate")
    shutil.copyfile(path_of(other), path)


def _of_another_model(path: Path) -> None:
    cache = EngineCache(path.parent, 1 << 20)
    cache.keep(OTHER, engine(), "gate")
    path_of(cache, OTHER).replace(path)


def _of_another_version(path: Path) -> None:
    cache = EngineCache(path.parent, 1 << 20)
    cache.keep(SOURCE, OLD_ENGINE, "gate")
    path_of(cache, host=OLDER).replace(path)


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _second_name(path: Path) -> None:
    os.link(path, path.with_name("second"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.hostile("G15 an engine with one flipped bit")
@pytest.mark.hostile("R27 an engine runs only by its hash")
@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        pytest.param(_flip, "changed", id="flipped-bit"),
        pytest.param(_forged, "seal", id="forged-record"),
        pytest.param(_of_another_device, "seal", id="another-device"),
        pytest.param(_of_another_model, "other", id="another-model"),
        pytest.param(_of_another_version, "other", id="another-version"),
        pytest.param(lambda path: path.write_bytes(b"x" * 99), "form", id="replaced"),
        pytest.param(lambda path: path.write_bytes(engine().plan), "form", id="bare-plan"),
        pytest.param(lambda path: path.write_bytes(engine().encode()), "form", id="bare-engine"),
        pytest.param(lambda path: path.write_bytes(b""), "form", id="empty"),
        pytest.param(lambda path: os.truncate(path, 40), "form", id="torn"),
        pytest.param(_linked, "file", id="symlink"),
        pytest.param(_second_name, "file", id="hard-link"),
        pytest.param(_fifo, "file", id="fifo"),
        pytest.param(lambda path: path.chmod(0o644), "file", id="mode"),
        pytest.param(lambda path: path.chmod(0o620), "file", id="group-writes"),
        pytest.param(
            lambda path: os.chown(path, 12345, 12345),
            "file",
            id="owner",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
        ),
    ],
)
def test_a_hostile_entry_is_thrown_out_before_anybody_deserialises_it(cache, caplog, spoil, kind):
    cache.keep(SOURCE, engine(), "gate")
    spoil(path_of(cache))
    found = cache.find(SOURCE, HOST)
    assert found.data is None
    assert found.why.startswith("the kept engine was thrown out: ")
    assert cache.refused == {kind: 1}
    assert "is thrown out" in caplog.text
    assert not os.path.lexists(path_of(cache))
    # and the next one finds nothing, builds anew, and is believed again
    assert cache.find(SOURCE, HOST).why == "no engine was built for it on this device"
    path_of(cache).with_name("second").unlink(missing_ok=True)
    cache.keep(SOURCE, engine(), "gate")
    assert cache.find(SOURCE, HOST).data == engine().encode()


def test_a_listing_throws_out_what_is_not_ours_too(cache):
    cache.keep(SOURCE, engine(), "gate")
    cache.keep(OTHER, engine(), "gate")
    _forged(path_of(cache))
    assert [kept.record.source for kept in cache.entries()] == [OTHER]
    assert cache.refused == {"seal": 1}


def test_with_a_key_that_others_know_nothing_is_believed_and_nothing_lost(cache):
    cache.keep(SOURCE, engine(), "gate")
    (cache._directory / "device.key").chmod(0o644)
    again = EngineCache(cache._directory, 1 << 20)
    found = again.find(SOURCE, HOST)
    assert found.data is None
    assert "mode is 0644" in found.why
    assert path_of(cache).exists()
    with pytest.raises(LoadError, match="mode is 0644"):
        again.keep(SOURCE, engine(), "gate")


def test_a_folder_that_others_write_into_is_not_used(cache):
    cache.keep(SOURCE, engine(), "gate")
    cache._directory.chmod(0o770)
    found = cache.find(SOURCE, HOST)
    assert found.data is None
    assert "expected mode 0700" in found.why
    assert cache.entries() == []


def test_a_folder_that_is_a_link_is_not_followed(cache, tmp_path):
    cache.keep(SOURCE, engine(), "gate")
    cache._directory.rename(tmp_path / "elsewhere")
    cache._directory.symlink_to("elsewhere")
    assert cache.find(SOURCE, HOST).data is None


def test_reading_makes_it_the_last_to_go(cache):
    for number, source in enumerate((SOURCE, OTHER)):
        cache.keep(source, engine(), "gate")
        os.utime(path_of(cache, source), (number, number))
    cache.find(SOURCE, HOST)
    size = path_of(cache).stat().st_size
    cache.cap_bytes = size
    cache.collect({SOURCE.bundle, OTHER.bundle}, HOST)
    assert [kept.record.source for kept in cache.entries()] == [SOURCE]


def test_there_is_room_for_the_new_one_or_it_is_refused(cache):
    size = cache.keep(SOURCE, engine(), "gate")
    cache.cap_bytes = size + 10
    cache.keep(OTHER, engine(), "gate")
    assert [kept.record.source for kept in cache.entries()] == [OTHER]
    cache.cap_bytes = size - 1
    with pytest.raises(LoadError, match=rf"engines.cache_size allows {size - 1}"):
        cache.keep(SOURCE, engine(), "gate")
    assert cache.find(OTHER, HOST).data is not None


def test_collecting_lets_go_of_models_that_are_gone_and_of_older_hosts(cache):
    cache.keep(SOURCE, OLD_ENGINE, "gate")
    cache.collect({SOURCE.bundle}, HOST)
    assert len(cache.entries()) == 1, "the way back to the former TensorRT"
    cache.keep(SOURCE, engine(), "gate")
    cache.keep(OTHER, engine(), "gate")
    assert cache.collect({SOURCE.bundle}, HOST) > 0
    assert [(k.record.source, k.record.host) for k in cache.entries()] == [(SOURCE, HOST)]


def kept(name: str, size: int, used_at: float, host=HOST, source=SOURCE) -> Kept:
    record = Record(source=source, host=host, engine_sha256="", engine_bytes=size)
    return Kept(name, record, size, used_at)


@pytest.mark.parametrize(
    ("cap", "gone"), [(60, ""), (59, "a"), (50, "a"), (49, "ab"), (30, "ab"), (29, "abc")]
)
def test_the_longest_unused_go_first(cap, gone):
    there = [kept("c", 30, 3.0), kept("a", 10, 1.0), kept("b", 20, 2.0)]
    assert "".join(one.name for one in oldest_over(there, cap)) == gone


def test_without_knowing_the_host_only_models_that_are_gone_go():
    there = [kept("a", 1, 0, OLDER), kept("b", 1, 0), kept("c", 1, 0, source=OTHER)]
    assert [one.name for one in choose_victims(there, {SOURCE.bundle}, None, 99)] == ["c"]
    assert [one.name for one in choose_victims(there, {SOURCE.bundle}, HOST, 99)] == ["a", "c"]


_KEEP = """
import sys
from pathlib import Path
from edged.engines.cache import EngineCache
from tests.engines.test_entry import SOURCE
from tests.runtimes.test_engine import engine
EngineCache(Path(sys.argv[1]), 1 << 20).keep(SOURCE, engine(), "gate")
"""


@pytest.mark.parametrize(
    ("point", "is_there"), [("engine.written", False), ("engine.renamed", True)]
)
def test_a_process_killed_while_it_writes_leaves_a_whole_entry_or_none(cache, point, is_there):
    done = subprocess.run(
        [sys.executable, "-c", _KEEP, str(cache._directory)],
        env={**os.environ, VARIABLE: point, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 137
    assert (cache.find(SOURCE, HOST).data is not None) == is_there
    assert not cache.refused
    cache.collect({SOURCE.bundle}, HOST)
    there = {path.name for path in cache._directory.iterdir()}
    assert there == {"device.key", *([path_of(cache).name] if is_there else [])}


def test_a_full_disk_leaves_what_was_there(cache, monkeypatch):
    cache.keep(SOURCE, engine(), "gate")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edged.engines.cache.write_file", full)
    with pytest.raises(OSError, match="No space"):
        cache.keep(OTHER, engine(), "gate")
    assert cache.find(SOURCE, HOST).data == engine().encode()
    assert len(list(cache._directory.iterdir())) == 2
