"""Whole batches, as people start them: done, failed, interrupted, killed, resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from converters.cli import main

NAMES = ["a-1-cpu.edgb", "b-2.edgb"]
BATCH = """\
models:
  - {recipe: r.yaml, targets: [cpu]}
  - {source: b.onnx, samples: rows.npy, name: b, release: 2}
"""
START = (
    # A shell that starts something in the background has it ignore this signal.
    "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from converters.cli import main\nsys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def two(models):
    return models(BATCH)


def batch(path, *words):
    return main(["batch", str(path), "-o", str(path.parent / "out"), "--no-report", *words])


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_all_done_then_resumed_then_one_repeated(two, capsys):
    out = two.parent / "out"
    assert batch(two, "--jobs", "2") == 0
    text, err = capsys.readouterr()
    assert "batch: 2 done, 0 failed" in text
    lines = err.splitlines()
    assert [line[:6] for line in lines] == ["[1/2] ", "[2/2] "]
    assert all(" MiB, done" in line for line in lines)
    assert left_in(out) == [*NAMES, "batch.json"]
    state = json.loads((out / "batch.json").read_text())
    assert [outcome["name"] for outcome in state["outcomes"]] == NAMES
    assert all(outcome["peak_bytes"] > 10 << 20 for outcome in state["outcomes"])
    before = {name: (out / name).read_bytes() for name in NAMES}
    (out / NAMES[1]).write_bytes(b"something else")
    assert batch(two, "--resume") == 0
    text, err = capsys.readouterr()
    assert err.startswith(f"[1/1] {NAMES[1]}: ")
    assert text.count("done before") == 1
    assert {name: (out / name).read_bytes() for name in NAMES} == before


@pytest.mark.slow
def test_one_that_fails_stops_no_other_and_is_repeated(two, capsys):
    good = (two.parent / "a.onnx").read_bytes()
    (two.parent / "a.onnx").write_bytes(b"nothing")
    assert batch(two, "--jobs", "2") == 1
    text, err = capsys.readouterr()
    assert "batch: 1 done, 1 failed" in text
    assert err.count("FAILED: ") == 1
    assert left_in(two.parent / "out") == [NAMES[1], "batch.json"]
    (two.parent / "a.onnx").write_bytes(good)
    assert batch(two, "--resume") == 0
    text, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert "2 done, 0 failed" in text


def test_what_cannot_be_started_is_told_before_anything(models, capsys):
    assert batch(models("models:\n  - {sorce: a}\n")) == 65
    assert "batch.yaml:2:6: models[0].sorce" in capsys.readouterr().err
    assert not (models("models: []").parent / "out").exists()
    with pytest.raises(SystemExit) as error:
        batch(models("models: []"), "--jobs", "0")
    assert error.value.code == 2


@pytest.fixture
def stuck(two, sleeper):
    """A batch of two jobs whose frameworks do nothing, and the processes that these run in."""
    mark = two.parent / "sleeping"
    words = ["batch", str(two), "-o", str(two.parent / "out"), "--jobs", "2", "--no-report"]
    process = subprocess.Popen(
        [sys.executable, "-c", START, *words, "--python", str(sleeper)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not (mark.exists() and len(mark.read_text().splitlines()) == 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process, [int(line) for line in mark.read_text().split()]
    process.kill()
    process.communicate()


def wait_for_the_end_of(pids):
    deadline = time.monotonic() + 60
    while left := [pid for pid in pids if os.path.exists(f"/proc/{pid}")]:  # noqa: PTH110
        assert time.monotonic() < deadline, f"{left} live on"
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_is_resumed(stuck, two, capsys):
    process, pids = stuck
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in err
    wait_for_the_end_of(pids)
    assert left_in(two.parent / "out") == ["batch.json"]
    assert batch(two, "--resume") == 0
    assert left_in(two.parent / "out") == [*NAMES, "batch.json"]


@pytest.mark.slow
def test_a_batch_that_is_killed_leaves_nothing_running(stuck, two):
    process, pids = stuck
    process.kill()
    wait_for_the_end_of(pids)
    assert left_in(two.parent / "out") == ["batch.json"]
