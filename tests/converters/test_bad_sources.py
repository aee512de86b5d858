"""Bad files through the command line: one sentence, an exit status, no bundle and no code run."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from converters.cli import main

SUGAR, SUGAR_VALUES = load_diabetes(return_X_y=True)


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def convert(tmp_path, capsys):
    """``convert(file, *flags) -> (exit status, error)``; the output never holds half a bundle."""
    np.save(tmp_path / "rows.npy", SUGAR[:60])
    output = tmp_path / "out" / "m.edgb"
    output.parent.mkdir()

    def run(path, *flags):
        words = [str(path), "-o", str(output), "--name", "m", "--release", "1", *flags]
        status = main([*words, "--samples", str(tmp_path / "rows.npy")])
        error = capsys.readouterr().err
        last = error.strip().splitlines()[-1]
        if status:
            assert last.startswith("error: ")
            assert not list(output.parent.iterdir())
        return status, last

    return run


@pytest.mark.parametrize("name", ["m.joblib", "m.pkl", "m.ubj", "m.json", "m.cbm", "m.txt", "m"])
def test_a_pickle_by_any_name_never_runs_without_trust(tmp_path, convert, name):
    for protocol in (2, 4, 5):
        data = pickle.dumps(Canary(tmp_path / "canary"), protocol)
        (tmp_path / name).write_bytes(data)
        status, error = convert(tmp_path / name)
        assert (status, "--trust" in error) == (77, True)
        assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["m.ubj", "m.cbm", "m.onnx"])
def test_an_old_pickle_called_data_is_not_unpickled(tmp_path, convert, name):
    """Protocol 0 has no sign at its start: whoever reads the kind by its name must refuse it."""
    (tmp_path / name).write_bytes(pickle.dumps(Canary(tmp_path / "canary"), 0))
    status, error = convert(tmp_path / name)
    assert status == 65, error
    assert not (tmp_path / "canary").exists()


def test_a_pickle_that_was_cut_short(tmp_path, convert):
    joblib.dump(LinearRegression().fit(SUGAR, SUGAR_VALUES), tmp_path / "m.joblib")
    data = (tmp_path / "m.joblib").read_bytes()
    (tmp_path / "m.joblib").write_bytes(data[: len(data) // 2])
    status, error = convert(tmp_path / "m.joblib", "--trust")
    assert (status, "could not be opened" in error) == (65, True)


def test_a_step_without_a_converter_is_named(tmp_path, convert):
    model = make_pipeline(FunctionTransformer(np.abs), LinearRegression())
    joblib.dump(model.fit(SUGAR, SUGAR_VALUES), tmp_path / "m.joblib")
    status, error = convert(tmp_path / "m.joblib", "--trust")
    assert status == 65
    assert 'step "functiontransformer" is a FunctionTransformer' in error


@pytest.fixture
def boosters(tmp_path):
    """A small model file of each kind."""
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    catboost = pytest.importorskip("catboost")
    pytest.importorskip("onnxmltools")
    small = xgboost.train({}, xgboost.DMatrix(SUGAR, SUGAR_VALUES), 5)
    small.save_model(tmp_path / "m.json")
    small.save_model(tmp_path / "m.ubj")
    table = lightgbm.Dataset(SUGAR, SUGAR_VALUES)
    lightgbm.train({"verbose": -1, "num_threads": 1}, table, 5).save_model(tmp_path / "m.txt")
    model = catboost.CatBoostRegressor(5, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(SUGAR, SUGAR_VALUES).save_model(str(tmp_path / "m.cbm"))
    return tmp_path


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["m.json", "m.ubj", "m.txt", "m.cbm"])
def test_boosters_cut_short_and_called_by_another_name(boosters, convert, name):
    path = boosters / name
    data = path.read_bytes()
    renamed = boosters / "renamed.bin"
    renamed.write_bytes(data)
    status, error = convert(renamed)
    assert status == 0, error
    for made in (boosters / "out").iterdir():  # the bundle and its reports
        made.unlink()
    path.write_bytes(data[: len(data) * 2 // 3])
    status, error = convert(path)
    assert status == 65
    assert "save_model" in error or "cut short" in error


@pytest.mark.frameworks
def test_the_kind_that_is_said_is_the_kind_that_reads(boosters, convert):
    for name, kind in (("m.cbm", "xgboost"), ("m.ubj", "lightgbm"), ("m.txt", "catboost")):
        status, error = convert(boosters / name, "--kind", kind)
        assert status == 65, error


@pytest.mark.frameworks
def test_a_bundle_of_named_columns_says_what_was_repaired(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    names = [f"sensor_{index}" for index in range(10)]
    rows = xgboost.DMatrix(SUGAR, SUGAR_VALUES, feature_names=names)
    xgboost.train({}, rows, 5).save_model(tmp_path / "m.ubj")
    table = np.column_stack([SUGAR_VALUES, SUGAR[:, ::-1]])
    header = ",".join(["target", *names[::-1]])
    np.savetxt(tmp_path / "rows.csv", table, delimiter=",", header=header, comments="", fmt="%.9g")
    command = [sys.executable, "-m", "converters.cli", "m.ubj", "-o", "m.edgb", "--name", "m"]
    command += ["--release", "1", "--samples", "rows.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "converters.cli", "inspect", "m.edgb"]
    shown = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout
    assert "sensor_0, sensor_1" in shown
    assert "column-names" in shown
