"""What every runtime keeps when something is wrong, or ends: words, and a session that stays usable.

Over all that import here, as in ``test_contract.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import LoadError, RunError
from edged.runtimes.base import Runtime
from edged.system.child import child_environment
from tests.fakes.packages import ROOT
from tests.models import TinyModel, classifier, double, heavy, with_external_data
from tests.runtimes.contract import IN_ONE_FILE, artefact, is_old_onnxruntime

PATHS = re.compile(r"(?<![\w.])/[a-z]\w*/")
"""Of the machine: a path below the root."""
CHILD = """
import json, sys
from pathlib import Path
from typing import Any
from edged.device.memory import forget_peak, taken
from edged.errors import LoadError
from edged.runtimes.base import Artefact
from edged.runtimes.registry import create_runtime
from edged.tensors import TensorSpec
name, folder = sys.argv[1:]
runtime = create_runtime(name, threads=1, is_expendable=True)
runtime.info()
inputs, outputs = (
    tuple(TensorSpec(*row[:2], tuple(row[2])) for row in rows)
    for rows in json.loads(Path(folder, "signature.json").read_text())
)
def load(data):
    return runtime.load(Artefact("gate", data, inputs, outputs))
"""
MUTATE = """
data, refused, taken = Path(folder, "model").read_bytes(), [], 0
tries = [data[:n] for n in range(0, len(data), max(1, len(data) // 20))]
for at in range(0, len(data), max(1, len(data) // 80)):
    tries.append(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1:])
for one in tries:
    try:
        load(one).close()
        taken += 1
    except LoadError as exc:
        refused.append(exc.message)
print(json.dumps([taken, refused]))
"""
GROW = """
load(Path(folder, "small").read_bytes()).close()
data = Path(folder, "model").read_bytes()
forget_peak()
before = taken()
session = load(data)
print(json.dumps([list(before), list(taken())]))
"""


def child(script: str, runtime: Runtime, folder: Path, model: TinyModel, where: Path) -> Any:
    """Do something to a runtime in a process of its own, which may crash; its line of JSON."""
    (folder / "model").write_bytes(artefact(runtime, model).data)
    signature = [
        [[one.name, one.dtype, one.shape] for one in entries]
        for entries in (model.inputs, model.outputs)
    ]
    (folder / "signature.json").write_text(json.dumps(signature))
    done = subprocess.run(
        [sys.executable, "-c", CHILD + script, runtime.name, str(folder)],
        env=child_environment() | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path, str(where)])},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


class TestFiles:
    @pytest.mark.parametrize(
        "data",
        [
            b"", b"hello", double().data[:50], double().data[:-1], bytes(1000), b"\xff" * 100,
            b"<?xml version='1.0'?><net name='x' version='11'></net>",
            b"\x3a\xff\xff\xff\xff\x0f" + b"x" * 50,  # a graph that says it has 4 GiB
        ],
        ids=range(8),
    )  # fmt: skip
    def test_not_a_model(self, runtime: Runtime, data: bytes):
        with pytest.raises(LoadError) as caught:
            runtime.load(artefact(runtime, double(), data=data))
        assert 'model "double-float32"' in caught.value.message
        assert not PATHS.search(caught.value.message), caught.value.message

    def test_weights_in_a_second_file(self, runtime: Runtime):
        model, files = with_external_data()
        if runtime.name in IN_ONE_FILE or is_old_onnxruntime(runtime):
            with pytest.raises(LoadError, match=r'model "external".*(one file|into one)'):
                runtime.load(artefact(runtime, model, sidecars=files))
            return
        session = runtime.load(artefact(runtime, model, sidecars=files))
        model.check(session)
        session.close()

    def test_what_was_not_handed_in_is_looked_for_nowhere(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        model, files = with_external_data()
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LoadError, match='model "external"'):
            runtime.load(artefact(runtime, model))


class TestRuns:
    @pytest.mark.parametrize(
        "inputs",
        [
            {},
            {"x": np.ones((1, 5), "f4")},
            {"x": np.ones((1, 4), "f8")},
            {"x": np.ones(4, "f4")},
            {"z": np.ones((1, 4), "f4")},
            {"x": np.ones((1, 4), "f4"), "z": np.ones((1, 4), "f4")},
        ],
        ids=range(6),
    )
    def test_failing_run_leaves_the_session_usable(self, runtime: Runtime, inputs):
        session = runtime.load(artefact(runtime, double()))
        with pytest.raises(
            RunError, match='model "double-float32" failed while running: '
        ) as caught:
            session.run(inputs)
        assert not PATHS.search(caught.value.message), caught.value.message
        double().check(session)

    def test_inputs_are_left_as_they_are(self, runtime: Runtime):
        session = runtime.load(artefact(runtime, double()))
        x = np.arange(8, dtype="f4").reshape(2, 4)
        inputs = {"x": x}
        session.run(inputs)
        assert list(inputs) == ["x"]
        assert inputs["x"] is x
        np.testing.assert_array_equal(x, np.arange(8).reshape(2, 4))


class TestClose:
    def test_twice_and_then_nothing_runs(self, runtime: Runtime):
        session = runtime.load(artefact(runtime, double()))
        session.close()
        session.close()
        for _ in range(2):
            with pytest.raises(RunError, match="closed"):
                session.run(double().sample(1))
        x, y = np.zeros((1, 4), "f4"), np.zeros((1, 4), "f4")
        with contextlib.suppress(RunError):  # who binds nothing may also say so
            assert session.bind({"x": x}, {"y": y}) is None

    def test_one_session_and_not_its_neighbour(self, runtime: Runtime):
        first, second = (runtime.load(artefact(runtime, double())) for _ in range(2))
        first.close()
        double().check(second)
        second.close()

    def test_while_others_run(self, runtime: Runtime):
        """A run in progress ends well, or is told in words that it came too late."""
        session = runtime.load(artefact(runtime, double()))
        x, wrong = np.ones((2, 4), np.float32), []
        started = threading.Barrier(4)

        def work() -> None:
            started.wait(60)
            try:
                while True:
                    if not (session.run({"x": x})["y"] == 2).all():
                        wrong.append("numbers")
            except RunError as exc:
                if "closed" not in exc.message:
                    wrong.append(exc.message)
            except BaseException as exc:
                wrong.append(repr(exc))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait(60)
        session.run({"x": x})
        session.close()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert not any(thread.is_alive() for thread in threads)


class TestMemory:
    def test_estimate_grows_with_the_file(self, runtime: Runtime):
        small = runtime.estimate_bytes(artefact(runtime, double()))
        large = runtime.estimate_bytes(artefact(runtime, double(), data=bytes(1 << 20)))
        assert large - small >= 3 << 20
        beside = runtime.estimate_bytes(
            artefact(runtime, double(), sidecars={"w.data": bytes(1 << 20)})
        )
        assert beside - small >= 3 << 20


@pytest.mark.slow
class TestApart:
    """In a process of its own."""

    def test_flipped_bits_and_lost_ends(self, runtime: Runtime, example: Path, tmp_path: Path):
        """Refused in words or taken, and never the end of the process."""
        taken, refused = child(MUTATE, runtime, tmp_path, classifier(), example)
        assert taken > 0  # what lies in the weights is a model like any other
        assert len(refused) >= 20
        for words in refused:
            assert 'model "gate"' in words
            assert not PATHS.search(words), words

    def test_estimate_is_an_upper_bound(self, runtime: Runtime, example: Path, tmp_path: Path):
        model = heavy(1, 2200)
        (tmp_path / "small").write_bytes(artefact(runtime, heavy(2, 8)).data)
        before, after = child(GROW, runtime, tmp_path, model, example)
        grown = max(after) - max(before)
        assert grown <= runtime.estimate_bytes(artefact(runtime, model))
