"""The inside of the throw-away process: every outcome is a file, and nothing comes back as a pickle."""

import dataclasses
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from converters import worker
from converters.errors import ParityError, UnsupportedModelError
from converters.sources import onnx as source
from converters.sources.base import Exported, SourceJob, SourceResult
from converters.sources.kinds import BY_NAME
from edged.store.golden import read_safetensors, write_safetensors

ROWS = np.arange(12, dtype="f4").reshape(4, 3)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Returns ``run(export) -> result``: the worker's own steps around one source."""
    monkeypatch.setattr(worker, "isolate", lambda _seconds: "not in a test's own process")

    def run(export, **fields):
        job = SourceJob(framework="onnx", source="m.onnx", **fields)
        (tmp_path / "job.json").write_bytes(msgspec.json.encode(job))
        (tmp_path / "samples.safetensors").write_bytes(write_safetensors({"x": ROWS}))
        monkeypatch.setattr(source, "export", export)
        assert worker.main(tmp_path) == 0
        return msgspec.json.decode((tmp_path / "result.json").read_bytes(), type=SourceResult)

    return run


def exported(build_linear, samples, **fields):
    def call(inputs):
        return {"y": inputs["x"][:, :2] * 2}

    return Exported(
        model=build_linear(), inputs=samples, outputs=call(samples), framework={"other": "1.2"},
        reference="by hand", call=call, **fields,
    )  # fmt: skip


def test_model_numbers_and_edges_come_back_as_files(work, tmp_path, build_linear):
    result = work(lambda _job, samples: exported(build_linear, samples, labels=("a", "b")))
    assert not result.error
    assert (result.input_names, result.output_names) == (("x",), ("y",))
    assert result.labels == ("a", "b")
    assert result.versions.items() >= {"other": "1.2", "numpy": np.__version__}.items()
    assert result.isolation == "not in a test's own process"
    assert "lowest" in result.edges
    tensors = read_safetensors((tmp_path / "reference.safetensors").read_bytes())
    np.testing.assert_array_equal(tensors["in.x"], ROWS)
    np.testing.assert_array_equal(tensors["out.y"], ROWS[:, :2] * 2)
    np.testing.assert_array_equal(tensors["edge.lowest.in.x"], ROWS[:1])
    np.testing.assert_array_equal(tensors["edge.lowest.out.y"], ROWS[:1, :2] * 2)
    assert (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("kind", [UnsupportedModelError, ParityError])
def test_a_refusal_keeps_its_words_and_its_kind(work, tmp_path, kind):
    def refuse(_job, _samples):
        raise kind('step "x" is not for devices')

    result = work(refuse)
    assert (result.error, result.error_kind) == ('step "x" is not for devices', kind.__name__)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (ValueError("first\nsecond"), "onnx failed while converting: ValueError: first"),
        (KeyError(), "onnx failed while converting: KeyError: "),
        (RuntimeError("x" * 9000), "onnx failed while converting: RuntimeError: " + "x" * 400),
        (MemoryError(), "the conversion needs more memory than this machine has"),
    ],
)
def test_whatever_a_framework_raises_is_one_line(work, raised, words, capsys):
    def fail(_job, _samples):
        raise raised

    result = work(fail)
    assert (result.error, result.error_kind) == (words, "")
    assert isinstance(raised, MemoryError) == ("Traceback" not in capsys.readouterr().err)


def test_a_package_that_is_missing_is_named_with_the_line_to_type(work, monkeypatch):
    def missing(_name):
        raise ImportError(name="skl2onnx")

    monkeypatch.setattr(worker, "importlib", SimpleNamespace(import_module=missing))
    result = work(lambda *_: None)
    assert "needs skl2onnx, which is not installed" in result.error
    assert f"pip install '{BY_NAME['onnx'].extra}'" in result.error


def test_a_python_that_is_too_old_is_told_before_a_package_that_it_cannot_have(work, monkeypatch):
    """Its extra installs nothing there, so that the line to type would help nobody."""
    assert BY_NAME["jax"].python == (3, 11)
    late = dataclasses.replace(BY_NAME["onnx"], python=(9, 1))
    monkeypatch.setattr(worker, "BY_NAME", {"onnx": late})
    result = work(lambda *_: None)
    assert result.error.startswith("a onnx source needs Python 9.1 or later, this is ")
    assert "--python" in result.error


def test_where_the_users_own_modules_are_looked_for_comes_first(work, monkeypatch, tmp_path):
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    seen = []

    def look(_job, _samples):
        seen.append(sys.path[0])
        raise UnsupportedModelError("enough")

    work(look, import_from=str(tmp_path))
    assert seen == [str(tmp_path)]
