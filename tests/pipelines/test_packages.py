"""Steps of installed packages: found by entry point, held to what they promise."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edged.errors import (
    CancelledError,
    DeadlineExceededError,
    FieldError,
    InvalidRequestError,
    RunError,
)
from edged.pipelines.packages import installed, package_work
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import X, ask, idle

SOURCE = """
import numpy as np
from edged.tensors import TensorSpec

class Shift:
    def __init__(self, options):
        unknown = options.keys() - {"by", "lie", "fail"}
        if options.get("fail") == "at once":
            raise SystemExit(1)
        if unknown:
            raise ValueError(f"unknown options: {sorted(unknown)}")
        self.by, self.lie, self.fail = options.get("by", 1), options.get("lie"), options.get("fail")

    def outputs(self, inputs):
        if self.fail == "foretelling":
            raise SystemExit(1)
        if "input" not in inputs:
            raise ValueError("needs an input called input")
        spec = inputs["input"]
        return [TensorSpec("moved", spec.dtype, spec.shape)]

    def run(self, inputs):
        if self.fail == "exit":
            raise SystemExit(1)
        if self.fail == "change":
            inputs["input"][...] = 7
        if self.fail == "objects":
            return {"moved": np.array([[object()] * 4] * 2)}
        if self.fail == "none":
            return None
        if self.fail == "rows":
            return {"moved": inputs["input"][:1]}
        if self.fail == "value":
            raise ValueError("the values are of no use")
        if self.fail:
            raise KeyError("oops")
        made = inputs["input"] + np.float32(self.by)
        return {"moved": made.astype(np.float64) if self.lie else made}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip would have installed it."""
    (tmp_path / "shifting.py").write_text(SOURCE)
    info = tmp_path / "shifting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shifting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edged.steps]\nshift = shifting:Shift\nlost = shifting:No\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("shifting", None)


SPECS = {"input": TensorSpec("input", "float32", ("batch", 4))}


def test_found_and_made(package: Path):
    assert installed()["shift"].value == "shifting:Shift"
    work = package_work("shift", {"by": 2}, {"input": "x"})
    assert work.is_slow
    assert [str(spec) for spec in work.outputs(SPECS)] == ["float32[batch,4]"]
    np.testing.assert_array_equal(work.run({"input": X})["moved"], X + 2)


def test_refused(package: Path):
    for name, options, where, why in (
        ("shif", {}, "use", r'no installed package has a step "shif" \(did you mean "shift"\?\)'),
        ("shift", {"bye": 1}, "options", r"unknown options: \['bye'\]"),
        ("lost", {}, "options", "AttributeError"),
    ):
        with pytest.raises(FieldError, match=why) as caught:
            package_work(name, options, {})
        assert caught.value.path == where
    with pytest.raises(FieldError, match="needs an input called input"):
        package_work("shift", {}, {}).outputs({"x": SPECS["input"]})


def text(options: str) -> str:
    return f"""\
    inputs: {{x: "float32[batch,4]"}}
    steps:
    - {{name: s, use: shift, inputs: x, options: {{{options}}}}}
    - {{name: a, model: one, inputs: s}}
    outputs: {{y: a}}
"""


@on_loop
async def test_in_a_pipeline(package: Path):
    site = Site(text("by: 3"), one=model())
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], (X + 3) * 2)
    idle(site)


FAILS = {
    "lie: true": (RunError, 'step "s": made float64[2,4] for "moved" where it promised float32'),
    "fail: value": (InvalidRequestError, 'step "s": the values are of no use'),
    "fail: rows": (RunError, 'step "s": made 1 rows of 2 for "moved", where it promised a row for'),
    "fail: objects": (RunError, 'made object[2,4] for "moved"'),
    "fail: none": (RunError, "failed in an unexpected way; see the daemon's log"),
    "fail: exit": (RunError, "failed in an unexpected way; see the daemon's log"),
    "fail: change": (InvalidRequestError, "read-only"),
    "fail: true": (RunError, "failed in an unexpected way; see the daemon's log"),
}


@pytest.mark.hostile("H8 an installed step that exits, returns objects or changes what it is given")
@pytest.mark.parametrize("options", FAILS)
@on_loop
async def test_what_it_does_wrong_is_its_own(package: Path, options: str):
    site = Site(text(options), one=model())
    answers, _ = ask(site)
    await until(lambda: answers)
    kind, said = FAILS[options]
    assert type(answers.only.error) is kind
    assert said in answers.only.error.message
    assert not site.sessions["one"].runs
    idle(site)


def test_one_that_exits_ends_nothing_but_its_own_check(package: Path):
    with pytest.raises(FieldError, match="SystemExit"):
        package_work("shift", {"fail": "at once"}, {})
    with pytest.raises(FieldError, match="SystemExit"):
        package_work("shift", {"fail": "foretelling"}, {}).outputs(SPECS)


@on_loop
async def test_a_request_waits_for_a_thread_until_its_deadline_and_no_longer(package: Path):
    """A package's run that never returns keeps its thread, and nobody else: not for ever."""
    site = Site(text("by: 3"), one=model())
    go, begun = threading.Event(), []
    for _ in range(8):  # more than there are threads
        site.workshop.do(lambda: begun.append(1) or go.wait(60), lambda _: None, is_foreign=True)
    late, _ = ask(site, deadline_ns=time.monotonic_ns() + 20_000_000)
    await until(lambda: late)
    assert type(late.only.error) is DeadlineExceededError
    assert "while waiting for a thread" in late.only.error.message
    withdrawn, ticket = ask(site)
    await turns()
    assert ticket.cancel()
    assert type(withdrawn.only.error) is CancelledError
    own = []
    site.workshop.do(lambda: "not behind them", own.append)
    await until(lambda: own)
    count = len(begun)
    go.set()
    await until(lambda: len(begun) == 8)
    assert count < 8
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], (X + 3) * 2)
    assert len(late) == len(withdrawn) == 1
    idle(site)
