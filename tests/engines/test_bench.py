"""One build, in the real process over a fake TensorRT: kept when it is right, and only then."""

from __future__ import annotations

import contextlib
import types
from pathlib import Path

import msgspec
import pytest

from edged.engines.bench import BusyBenchError, EngineBench, Task
from edged.engines.cache import EngineCache
from edged.engines.process import BuildProcess
from edged.engines.seal import open_seal
from edged.engines.timings import read_timings
from edged.errors import BuildError, EdgedError, GoldenMismatchError
from edged.runtimes.engine import decode


@pytest.fixture
def bench(tmp_path: Path) -> EngineBench:
    directory = tmp_path / "state" / "engines"
    directory.mkdir(parents=True)
    return EngineBench(directory, EngineCache(directory, 64 << 20))


def build(bench: EngineBench, task: Task, memory: int = 0) -> None:
    with bench.held(), contextlib.closing(bench.begin(task, memory)) as process:
        process.wait()
        built = process.result(task.wish.entry.precision)
        bench.accept(task, built, built.engine.fingerprint.host)


def folders(bench: EngineBench) -> list[str]:
    return sorted(path.name for path in bench._directory.glob("build-*"))


def test_an_engine_that_gives_the_golden_answers_is_kept(gpu, task, bench):
    gpu()
    build(bench, task)
    [kept] = bench.cache.entries()
    found = bench.cache.find(task.wish.source, kept.record.host)
    assert found.data is not None
    inside = decode(found.data).fingerprint
    assert (inside.built, inside.options) == ({"HALF": 1}, task.wish.source.options)
    assert folders(bench) == []
    assert read_timings(bench._directory, open_seal(bench._directory)) == b"timed "
    build(bench, task)
    assert read_timings(bench._directory, open_seal(bench._directory)) == b"timed timed "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("build", "cannot build it: Could not find any implementation"),
        ("float32", "asks for float16; TensorRT 10.3.0 built no layer of it"),
    ],
)
def test_what_tensorrt_does_not_build_as_asked_is_not_kept(gpu, task, bench, fault, words):
    gpu(fault=fault)
    with pytest.raises(BuildError, match=words):
        build(bench, task)
    assert bench.cache.entries() == []
    assert folders(bench) == []


@pytest.mark.slow
def test_without_a_package_it_says_what_is_missing(gpu, task, bench):
    gpu(extra="raise ImportError('no TensorRT')")
    with pytest.raises(EdgedError, match="TensorRT"):
        build(bench, task)


def test_one_that_gives_other_answers_is_not_kept(gpu, task, bench):
    gpu()
    with bench.held(), contextlib.closing(bench.begin(task, 0)) as process:
        process.wait()
        built = process.result("float16")
        built.answers["y"] = built.answers["y"] + 1
        with pytest.raises(GoldenMismatchError, match='the engine of "m"'):
            bench.accept(task, built, built.engine.fingerprint.host)
    assert bench.cache.entries() == []


@pytest.mark.slow
def test_one_for_another_device_than_asked_is_not_kept(gpu, task, bench):
    gpu()
    with bench.held(), contextlib.closing(bench.begin(task, 0)) as process:
        process.wait()
        built = process.result("float16")
        other = msgspec.structs.replace(built.engine.fingerprint.host, driver="1")
        with pytest.raises(BuildError, match="the device changed during the build"):
            bench.accept(task, built, other)
    assert bench.cache.entries() == []


def test_one_builder_at_a_time_on_a_device(task, bench):
    other = EngineBench(bench._directory, bench.cache)
    assert not other.is_taken()
    with bench.held():
        assert other.is_taken()
        with pytest.raises(BusyBenchError, match="another process builds"), other.held():
            pass
    assert not other.is_taken()


@pytest.mark.slow
def test_what_a_killed_builder_left_is_swept_away(gpu, task, bench):
    gpu()
    (bench._directory / "build-dead").mkdir()
    (bench._directory / "build-dead" / "model.onnx").write_bytes(b"x")
    with bench.held(), contextlib.closing(bench.begin(task, 0)):
        assert "build-dead" not in folders(bench)


def test_a_process_that_cannot_start_leaves_nothing(task, bench):
    def start(*_: object) -> BuildProcess:
        raise BuildError("no")

    broken = EngineBench(bench._directory, bench.cache, start)
    with pytest.raises(BuildError):
        broken.begin(task, 0)
    assert folders(bench) == []


def test_golden_samples_are_a_must(task, bench):
    bare = msgspec.structs.replace(task.stored.manifest, golden=None)
    stored = types.SimpleNamespace(manifest=bare, golden=lambda _entry: None)
    with pytest.raises(BuildError, match="no golden samples"):
        bench.begin(task._replace(stored=stored), 0)
    assert folders(bench) == []
