"""The same batch on the workers of a Dask cluster: a real scheduler and a worker process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.cli import main

START = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from converters.cli import main
sys.exit(main(sys.argv[1:]))
"""
CLUSTER = """\
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a cluster with one worker of two threads."""
    pytest.importorskip("distributed", reason="distributed is not installed")
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "cluster.py").write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, folder / "cluster.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )  # fmt: skip
    yield process.stdout.readline().strip()
    process.communicate("", timeout=60)


@pytest.fixture
def two(models):
    return models(
        "models:\n  - {recipe: r.yaml}\n  - {source: b.onnx, samples: rows.npy, name: b, release: 2}\n"
    )


def words(path, scheduler):
    output = str(path.parent / "out")
    return ["batch", str(path), "-o", output, "--no-report", "--dask", scheduler]


def start(path, scheduler, *more):
    """The command in a process: Dask's client leaves threads and loops behind."""
    return subprocess.Popen(
        [sys.executable, "-c", START, *words(path, scheduler), *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.frameworks
@pytest.mark.slow
def test_bundles_are_the_same_as_here_and_failures_are_told(two, scheduler, capsys):
    (two.parent / "b.onnx").write_bytes(b"nothing")
    process = start(two, scheduler)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 1, err
    assert "batch: 1 done, 1 failed" in out
    assert err.count(" MiB, done") == 1
    folder = two.parent / "out"
    there = {path.name: path.read_bytes() for path in folder.glob("*.edgb")}
    assert sorted(there) == ["a-1.edgb"]
    assert main(["batch", str(two), "-o", str(folder), "--no-report"]) == 1
    assert {path.name: path.read_bytes() for path in folder.glob("*.edgb")} == there


@pytest.mark.frameworks
@pytest.mark.slow
def test_ctrl_c_ends_what_the_workers_run(two, scheduler, sleeper):
    mark = two.parent / "sleeping"
    process = start(two, scheduler, "--python", str(sleeper))
    deadline = time.monotonic() + 90
    while not (mark.exists() and len(mark.read_text().splitlines()) == 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    for pid in mark.read_text().split():
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline + 60, f"{pid} lives on"
            time.sleep(0.01)
    assert sorted(path.name for path in (two.parent / "out").iterdir()) == ["batch.json"]


def test_what_is_missing_is_named(two, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(words(two, "tcp://127.0.0.1:9")) == 65
    assert "pip install 'edged[dask]'" in capsys.readouterr().err
