"""Drives MLflow itself: ``python drive_mlflow.py register|show STORE``; prints JSON.

``register`` logs two versions of a model and puts the alias ``champion`` on the first,
``edge`` on the second; ``show`` says what MLflow's own client sees afterwards.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path

warnings.simplefilter("ignore")


def register(client):
    import mlflow
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("f4")
    if isinstance(client.tracking_uri, str) and client.tracking_uri.startswith("sqlite"):
        artefacts = Path(client.tracking_uri.removeprefix("sqlite:///")).parent / "artefacts"
        mlflow.create_experiment("edge", artifact_location=artefacts.as_uri())
    mlflow.set_experiment("edge")
    found = {}
    for version in (1, 2):
        weight = np.full((4, 2), version, "f4")
        weight[0] = -1
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "W"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(weight, "W")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        with mlflow.start_run() as run:
            mlflow.onnx.log_model(
                model, name="scorer", registered_model_name="scorer", input_example=rows,
                pip_requirements=["numpy"],
            )  # fmt: skip
        found[version] = run.info.run_id
    client.set_registered_model_alias("scorer", "champion", "1")
    client.set_registered_model_alias("scorer", "edge", "2")
    return found


def show(client):
    model = client.get_registered_model("scorer")
    version = client.get_model_version("scorer", "1")
    report = None
    name = version.tags.get("edged.report")
    if name:
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory() as folder:
            path = download_artifacts(artifact_uri=f"models:/scorer/1/{name}", dst_path=folder)
            report = json.loads(Path(path).read_text())
    aliases = {alias: int(number) for alias, number in model.aliases.items()}
    return {"aliases": aliases, "tags": version.tags, "report": report}


if __name__ == "__main__":
    import mlflow

    mlflow.set_tracking_uri(sys.argv[2])
    answer = globals()[sys.argv[1]](mlflow.MlflowClient())
    print(json.dumps(answer))
