"""The inside of the building process: every outcome is a file, whether or not there is a GPU."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edged.engines import worker
from edged.engines.job import JOB, RESULT, STEP, BuildJob, BuildResult
from edged.errors import LoadError
from tests.models import double
from tests.runtimes.test_engine import engine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    job = BuildJob(
        model="m", inputs=double().inputs, outputs=double().outputs,
        options=engine().fingerprint.options, chunk=2, memory_mib=64,
    )  # fmt: skip
    (tmp_path / JOB).write_bytes(msgspec.json.encode(job))
    return tmp_path


def result_of(folder):
    return msgspec.json.decode((folder / RESULT).read_bytes(), type=BuildResult)


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (LoadError("the GPU is full"), "the GPU is full"),
        (MemoryError(), "or the cap of 64 MiB (--memory)"),
        (RuntimeError("first\nsecond"), "TensorRT failed while building: RuntimeError: first"),
        (KeyError("x" * 9000), "TensorRT failed while building: KeyError: 'xxx"),
    ],
)
def test_whatever_is_raised_is_one_line_of_a_result(folder, monkeypatch, raised, words):
    def fail(_folder, _job):
        raise raised

    monkeypatch.setattr(worker, "confine", lambda _descriptors: None)
    monkeypatch.setattr(worker, "limit", lambda _job: None)
    monkeypatch.setattr(worker, "_build", fail)
    assert worker.main(folder) == 0
    result = result_of(folder)
    assert result.kind == "refused"
    assert words in result.problem
    assert "\n" not in result.problem
    assert len(result.problem) < 600


def test_the_cap_is_set_before_anything_is_built(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(worker, "confine", lambda _descriptors: seen.append("bound"))
    monkeypatch.setattr(worker, "cap_memory", seen.append)
    limits = {}
    monkeypatch.setattr(worker.resource, "setrlimit", limits.__setitem__)
    monkeypatch.setattr(worker, "_build", lambda *_: seen.append("built") or BuildResult())
    worker.main(folder)
    assert seen == ["bound", 64 << 20, "built"]
    assert limits[worker.resource.RLIMIT_NICE] == (0, 0)
    assert (folder / STEP).read_text() == "starting"
    assert result_of(folder) == BuildResult()


def test_where_tensorrt_is_not_there_it_says_so_and_not_that_the_model_is_wrong(folder):
    code = (
        "import sys; sys.modules['tensorrt'] = None\n"
        "from pathlib import Path; from edged.engines.worker import main\n"
        "sys.exit(main(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
    result = result_of(folder)
    assert result.kind == "missing"
    assert result.problem  # the driver, the bindings or the GPU, whichever is looked for first


class Doubling:
    """A session that remembers how many rows it was asked for."""

    def __init__(self):
        self.asked = []

    def run(self, inputs):
        self.asked.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}


def test_golden_rows_are_run_so_many_at_a_time_in_order():
    rows = np.arange(10, dtype="f4").reshape(5, 2)
    session = Doubling()
    np.testing.assert_array_equal(worker._run(session, {"x": rows}, 2)["y"], rows * 2)
    worker._run(session, {"x": rows}, 0)
    assert session.asked == [2, 2, 1, 5]
    with pytest.raises(LoadError, match="no golden row"):
        worker._run(session, {"x": rows[:0]}, 2)
