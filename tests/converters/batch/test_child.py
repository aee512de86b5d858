"""One job in its process."""

import os
import subprocess
import sys

import pytest

from converters.batch.child import INTERRUPTED, do_job
from converters.batch.plan import Wish, read_batch
from edged.store.bundle import read_manifest


@pytest.fixture
def job(two, tmp_path):
    (tmp_path / "out").mkdir()
    return read_batch(two, Wish(output=tmp_path / "out", lock=True))[0]


def test_it_says_what_it_did(job, tmp_path):
    steps = []
    outcome = do_job(job, steps.append)
    assert outcome.status == "done", outcome.error
    assert outcome.grade == "verified"
    assert outcome.seconds > 0
    assert outcome.peak_bytes > 10 << 20
    assert steps[0] == "reading samples"
    assert steps[-1] == "writing the report"
    data, _, _ = read_manifest(tmp_path / "out" / job.name)
    assert len(data) > 100
    assert (tmp_path / "r.lock.json").exists()
    assert (tmp_path / "out" / "a-1-cpu.report.html").exists()


@pytest.mark.slow
def test_a_refusal_keeps_its_own_status(job, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    outcome = do_job(job, lambda _step: None)
    assert (outcome.status, outcome.exit, outcome.sha256) == ("failed", 65, "")
    assert outcome.error


def test_what_fails_inside_is_one_line(job, monkeypatch):
    from converters.batch import child

    def broken(*_arguments, **_options):
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr(child, "convert", broken)
    outcome = do_job(job, lambda _step: None)
    assert (outcome.exit, outcome.error) == (70, "failed inside: ZeroDivisionError: one")


@pytest.mark.slow
def test_a_child_whose_parent_is_gone_does_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "converters.batch.child", str(os.getpid() + 1)],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (INTERRUPTED, b"")
