"""Processes of this machine: what they say is heard, however they end."""

import pytest

from converters.batch import executor
from converters.batch.executor import LocalExecutor
from converters.batch.job import Job
from converters.recipe import Recipe


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Returns ``run(code) -> outcome, steps`` of a process that runs the code in the child's place."""

    def run(code):
        (tmp_path / "sitter.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(executor, "CHILD", "sitter")
        steps = []
        local = LocalExecutor(1, lambda *step: steps.append(step))
        recipe = Recipe(source="x", name="m", release=1)
        local.submit(Job(name="m", output="m", recipe=recipe, folder="/", fingerprint="f"))
        try:
            return local.next_done(60), steps
        finally:
            local.close()

    return run


def test_steps_and_outcome_are_heard_in_pieces(run):
    outcome, steps = run(
        "import sys, time\nassert b'edgb' not in sys.stdin.buffer.read()\n"
        "out = sys.stdout\n"
        'out.write(\'{"step":"one"}\\n{"st\'); out.flush(); time.sleep(0.05)\n'
        'out.write(\'ep":"two"}\\n{"outcome":{"name":"m","status":"done","sha256":"s"}}\\n\')\n'
    )
    assert steps == [("m", "one"), ("m", "two")]
    assert (outcome.status, outcome.sha256) == ("done", "s")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
            "SIGKILL (out of memory?): it s",
        ),
        ("raise SystemExit('no room')", "exit status 1: no room"),
        ("", "exit status 0: it said nothing"),
    ],
)
def test_a_process_that_dies_is_a_failed_job(run, code, words):
    outcome, _ = run(code)
    assert outcome.status == "failed"
    assert words in outcome.error
    assert outcome.fingerprint == "f"
    assert outcome.peak_bytes is None


def test_waiting_ends_in_time(run, monkeypatch):
    local = LocalExecutor(1)
    assert local.next_done(0.0) is None
    local.close()
