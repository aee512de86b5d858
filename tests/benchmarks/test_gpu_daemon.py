"""The check through the daemon, with the processor in the GPU's place: all of it really runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gpu_daemon
from benchmarks.gpu_loops import open_session, ways
from benchmarks.results import Row
from benchmarks.stand import BenchError
from edged.runtimes.cuda import driver_problem
from edged.runtimes.onnxruntime import CPU
from edged.runtimes.onnxruntime_tensorrt import OnnxTensorRtRuntime

pytestmark = pytest.mark.slow


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> gpu_daemon.Case:
    monkeypatch.setattr(gpu_daemon, "SECONDS", 0.05)
    monkeypatch.setattr(gpu_daemon, "ROUNDS", 1)
    return gpu_daemon.stack(1)


def test_every_row_of_a_runtime_against_its_own_loop(case: gpu_daemon.Case, tmp_path: Path):
    session = open_session(case.artefact, [CPU])
    rows: list[Row] = []
    gpu_daemon.through_the_daemon(
        rows,
        "ort-cuda",
        "onnxruntime",
        {case.name: (case, gpu_daemon.bundle(case, tmp_path))},
        gpu_daemon.Floor(lambda one, inputs: ways(session, "cpu", one.artefact, inputs)),
    )
    promised = [row for row in gpu_daemon.rows_of("ort-cuda") if "-stack-" in row[0]]
    assert [(row.name, row.unit, row.bar) for row in rows] == promised
    assert all(row.value and row.value > 0 for row in rows)


def test_another_runtime_than_asked_for_is_no_result(case: gpu_daemon.Case, tmp_path: Path):
    path = gpu_daemon.bundle(case, tmp_path)
    body = f"models: {{stack: {{bundle: {path}}}}}\n"
    with (
        gpu_daemon.served(body, "stack") as daemon,
        pytest.raises(BenchError, match="served by onnxruntime, not by onnxruntime-cuda"),
    ):
        gpu_daemon._check(daemon, case, "onnxruntime-cuda", gpu_daemon.Floor(lambda *_: []))


def test_without_the_provider_the_reason_is_said():
    runtime = OnnxTensorRtRuntime(threads=1)
    if not runtime.info().problem:
        pytest.skip("it is here")
    with pytest.raises(BenchError, match=r"built without Tensorrt|NVIDIA"):
        gpu_daemon.through_onnxruntime([], "ort-tensorrt", runtime, "cuda")


class TestStories:
    """They are the same wherever there is no GPU, hidden or not."""

    @pytest.fixture(autouse=True)
    def _no_gpu(self):
        if not driver_problem():
            pytest.skip("there is a GPU here")

    def test_a_stand_in_says_why(
        self, case: gpu_daemon.Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        path = gpu_daemon.bundle(case, tmp_path)
        row = gpu_daemon.allowed(case, path, "onnxruntime-cuda", {})
        assert row.holds, row
        monkeypatch.setattr(gpu_daemon, "release_of", lambda *_: {})
        assert gpu_daemon.allowed(case, path, "onnxruntime-cuda", {}).value == 1

    def test_none_where_it_may_not(self, case: gpu_daemon.Case, tmp_path: Path):
        path = gpu_daemon.bundle(case, tmp_path)
        row = gpu_daemon.denied(case, path, "onnxruntime-cuda", {})
        assert row.holds, row


def test_what_it_takes_by_itself(case: gpu_daemon.Case, tmp_path: Path):
    row = gpu_daemon.chosen(case, gpu_daemon.bundle(case, tmp_path), ("onnxruntime",))
    assert row.value is not None
    assert row.raw["took"] in {"onnxruntime", "openvino"}
    assert row.raw["choice"]
