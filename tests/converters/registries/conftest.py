"""Artefacts in the layout of other tools, written by hand; the tools' own are in the slow tests."""

import json
import sqlite3

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from converters.registries.resolved import Place

MLMODEL = {
    "mlflow_version": "3.17.2",
    "model_id": None,
    "run_id": "a" * 32,
    "flavors": {
        "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"},
        "onnx": {"data": "model.onnx", "onnx_version": "1.23.2", "code": None},
    },
    "signature": {
        "inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]',
        "outputs": None,
    },
    "saved_input_example_info": {"artifact_path": "input_example.json", "type": "ndarray"},
}


@pytest.fixture
def mlmodel(tmp_path, build_linear):
    """Returns ``write(folder=…, flavors=…, …) -> folder``: an ONNX model as MLflow saves it."""

    def write(folder=None, model=None, **changes):
        folder = folder or tmp_path / "model"
        folder.mkdir(parents=True, exist_ok=True)
        data = (model or build_linear()).SerializeToString()
        (folder / "model.onnx").write_bytes(data)
        rows = np.random.default_rng(0).normal(size=(5, 3)).round(3).tolist()
        (folder / "input_example.json").write_text(json.dumps(rows))
        (folder / "MLmodel").write_text(yaml.safe_dump({**MLMODEL, **changes}))
        return folder

    return write


SCHEMA = """
CREATE TABLE registered_models (name TEXT, last_updated_time INTEGER);
CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, storage_location TEXT,
    run_id TEXT, current_stage TEXT);
CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER,
    workspace TEXT NOT NULL DEFAULT 'default');
CREATE TABLE model_version_tags (name TEXT, version INTEGER, key TEXT, value TEXT,
    workspace TEXT NOT NULL DEFAULT 'default');
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT, source_run_id TEXT, name TEXT,
    creation_timestamp_ms INTEGER);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
"""


@pytest.fixture
def sqlite_store(tmp_path, mlmodel):
    """``mlflow.db`` with model ``scorer``: versions 1 and 2, alias ``champion`` on 1."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO registered_models VALUES ('scorer', 0)")
        for version, model_id in ((1, "m-1"), (2, "m-2")):
            folder = mlmodel(path.parent / f"mlruns/0/models/{model_id}/artifacts")
            database.execute(
                "INSERT INTO model_versions VALUES ('scorer', ?, ?, NULL, ?, 'None')",
                (version, f"models:/{model_id}", f"run{version}"),
            )
            database.execute(
                "INSERT INTO logged_models VALUES (?, ?, ?, 'scorer', 1)",
                (model_id, folder.as_uri(), f"run{version}"),
            )
        database.execute(
            "INSERT INTO registered_model_aliases (name, alias, version) "
            "VALUES ('scorer', 'champion', 1)"
        )
        database.execute("INSERT INTO runs VALUES ('run1', ?)", (str(path.parent / "mlruns/0/r"),))
    database.close()
    return path


@pytest.fixture
def file_store(tmp_path, mlmodel):
    """``mlruns`` with the same model in files."""
    root = tmp_path / "old" / "mlruns"
    for version in (1, 2):
        folder = mlmodel(root / f"0/models/m-{version}/artifacts")
        meta = {
            "artifact_location": str(folder),
            "source_run_id": f"run{version}",
            "name": "scorer",
        }
        (folder.parent / "meta.yaml").write_text(yaml.safe_dump(meta))
        place = root / f"models/scorer/version-{version}"
        place.mkdir(parents=True)
        meta = {"source": f"models:/m-{version}", "storage_location": str(folder),
                "run_id": f"run{version}", "model_id": f"m-{version}"}  # fmt: skip
        (place / "meta.yaml").write_text(yaml.safe_dump(meta))
    (root / "models/scorer/aliases").mkdir()
    (root / "models/scorer/aliases/champion").write_text("1")
    return root


@pytest.fixture
def bento_model(tmp_path, build_linear):
    """Returns ``write(module, files, home=…, …) -> folder``: a version in BentoML's store."""

    def write(module, files, *, name="scorer", version="abc", **changes):
        home = tmp_path / "bentoml"
        folder = home / "models" / name / version
        folder.mkdir(parents=True)
        for file, data in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        values = {"name": name, "version": version, "module": module, "labels": {}, "options": {},
                  "metadata": {}, "context": {"bentoml_version": "1.4.39"}, "signatures": {},
                  "api_version": "v1", "creation_time": "2026-11-27T09:00:00+00:00"}  # fmt: skip
        (folder / "model.yaml").write_text(yaml.safe_dump({**values, **changes}))
        (folder.parent / "latest").write_text(version)
        return folder

    return write


def _dense(columns=4, width=3, *, names=("x", "y"), batch="N", opset=17, seed=0):
    """``y = x @ W`` as ONNX; ``batch`` None leaves the batch axis out."""
    front = [] if batch is None else [batch]
    weight = np.random.default_rng(seed).normal(size=(columns, width)).astype("f4")
    graph = helper.make_graph(
        [helper.make_node("MatMul", [names[0], "W"], [names[1]])],
        "g",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [*front, columns])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [*front, width])],
        [numpy_helper.from_array(weight, "W")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.fixture(scope="session")
def dense():
    """Returns ``build(columns, width, names=…, batch=…, opset=…) -> ModelProto``."""
    return _dense


@pytest.fixture
def repository(tmp_path):
    """A Triton repository: ``put(name, config, model, versions=…, files=…) -> folder`` fills it."""
    root = tmp_path / "repository"
    root.mkdir()

    def put(name, config="", model=None, versions=(1,), files=None):
        (root / name).mkdir()
        for version in versions:
            (root / name / str(version)).mkdir(parents=True)
            if model is not None:
                path = root / name / str(version) / "model.onnx"
                path.write_bytes(model.SerializeToString())
        if config is not None:
            (root / name / "config.pbtxt").write_text(config)
        for file, data in (files or {}).items():
            path = root / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root / name

    put.root = root
    return put


@pytest.fixture
def place(tmp_path):
    """Where a registry may put what it unpacks or writes."""
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place")
