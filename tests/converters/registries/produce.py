"""Makes artefacts with the tools themselves: ``python produce.py GROUP FOLDER``.

A process of its own, because the tools import every framework they find and warn about most.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

ROWS = np.random.default_rng(0).normal(size=(80, 4)).astype("f4")
LABELS = (ROWS[:, 0] + ROWS[:, 1] > 0).astype(int)
PINNED = {"pip_requirements": ["numpy"]}
"""MLflow would guess them, which takes nine seconds a model."""


def classifier():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


def boosters():
    import catboost
    import lightgbm
    import xgboost

    return (
        xgboost.XGBClassifier(n_estimators=5, max_depth=2).fit(ROWS, LABELS),
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(ROWS, LABELS),
        catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(
            ROWS, LABELS
        ),
    )


def network():
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)
    return torch.nn.Sequential(*layers).eval()


def keras_model():
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers.Input((4,)), keras.layers.Dense(2, activation="softmax")
    return keras.Sequential(list(layers))


def tf_module():
    import tensorflow as tf

    class Double(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(tf.random.stateless_normal((4, 2), seed=(1, 2)))

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.matmul(x, self.weight)}

    return Double()


def onnx_model():
    from skl2onnx import to_onnx

    model = classifier()[-1]
    return to_onnx(model, ROWS, options={id(model): {"zipmap": False}})


def wide_onnx_model():
    """Weights above the kilobyte from which MLflow puts them into a file of their own."""
    from onnx import TensorProto, helper, numpy_helper

    wide = np.random.default_rng(1).normal(size=(4, 512)).astype("f4")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "wide"], ["h"]),
            helper.make_node("ReduceMax", ["h"], ["y"], axes=[1], keepdims=1),
        ],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(wide, "wide")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def lightning_module(package):
    """Defined in here, so that it is pickled by value: no class of this file is needed to open it."""
    import torch

    class Scorer(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x: torch.Tensor):
            return self.body(x)

    return Scorer().eval()


def mlflow_plain(folder):
    import mlflow
    import pandas as pd

    model, table = classifier(), pd.DataFrame(ROWS, columns=list("abcd"))
    model.fit(table, LABELS)
    for form in ("skops", "cloudpickle", "pickle"):
        mlflow.sklearn.save_model(
            model, folder / f"sklearn-{form}", serialization_format=form,
            input_example=table[:20], **PINNED,
        )  # fmt: skip
    xgb, lgb, cat = boosters()
    example = {"input_example": ROWS[:20], **PINNED}
    mlflow.xgboost.save_model(xgb, folder / "xgboost", **example)
    mlflow.xgboost.save_model(xgb.get_booster(), folder / "xgboost-booster", **PINNED)
    trusted = [
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
    ]
    mlflow.lightgbm.save_model(lgb, folder / "lightgbm", skops_trusted_types=trusted, **example)
    mlflow.lightgbm.save_model(lgb.booster_, folder / "lightgbm-booster", **PINNED)
    mlflow.catboost.save_model(cat, folder / "catboost", **example)
    mlflow.onnx.save_model(onnx_model(), folder / "onnx", **example)
    mlflow.onnx.save_model(wide_onnx_model(), folder / "onnx-wide", **example)
    assert len(list((folder / "onnx-wide").glob("*.data"))) == 1  # its weights lie beside it

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input):
            return model_input

    mlflow.pyfunc.save_model(folder / "pyfunc", python_model=Echo(), **PINNED)
    (folder / "scorer.py").write_text(FROM_CODE)
    code = str(folder / "scorer.py")
    mlflow.pyfunc.save_model(folder / "from-code", python_model=code, **PINNED)


def mlflow_torch(folder):
    import mlflow
    import torch

    net = network()
    example = {"input_example": ROWS[:20], **PINNED}
    mlflow.pytorch.save_model(net, folder / "pt2", **example)
    mlflow.pytorch.save_model(net, folder / "pth", serialization_format="pickle", **PINNED)
    script = torch.jit.trace(net, torch.tensor(ROWS))
    mlflow.pytorch.save_model(script, folder / "script", serialization_format="pickle", **PINNED)
    import lightning

    module = lightning_module(lightning)
    mlflow.pytorch.save_model(module, folder / "lightning", serialization_format="pickle", **PINNED)


def mlflow_tf(folder):
    import mlflow
    from mlflow.models import infer_signature

    model = keras_model()
    signed = {"signature": infer_signature(ROWS, ROWS[:, :2]), **PINNED}
    mlflow.keras.save_model(model, str(folder / "keras"), **signed)
    exported = str(folder / "keras-exported")
    mlflow.keras.save_model(model, exported, save_exported_model=True, **signed)
    for form in ("h5", "tf"):
        options = {"keras_model_kwargs": {"save_format": form}, **signed}
        mlflow.tensorflow.save_model(model, folder / f"tensorflow-{form}", **options)
    mlflow.tensorflow.save_model(tf_module(), folder / "tf2-module", **signed)


def bentoml_plain(folder):
    import bentoml

    # BentoML asks for the version of a package "xgboost", which xgboost-cpu does not call itself.
    honest = metadata.version
    names = {"xgboost": "xgboost-cpu"}
    metadata.version = lambda name: honest(names.get(name, name))
    sys.modules["importlib.metadata"].version = metadata.version
    xgb, lgb, cat = boosters()
    bentoml.sklearn.save_model("sklearn", classifier())
    bentoml.picklable_model.save_model("picklable", classifier())
    bentoml.onnx.save_model("onnx", onnx_model())
    bentoml.xgboost.save_model("xgboost", xgb.get_booster())
    bentoml.lightgbm.save_model("lightgbm", lgb.booster_)
    bentoml.catboost.save_model("catboost", cat)
    with bentoml.models.create("raw") as model:
        Path(model.path, "net.onnx").write_bytes(onnx_model().SerializeToString())
    import mlflow

    mlflow.sklearn.save_model(classifier(), folder / "inner", **PINNED)
    bentoml.mlflow.import_model("mlflow", str(folder / "inner"))
    (folder / "service").mkdir()
    (folder / "service" / "service.py").write_text(SERVICE)
    bento = bentoml.bentos.build("service:Scorer", build_ctx=str(folder / "service"))
    bentoml.bentos.export_bento(str(bento.tag), str(folder / "scorer.bento"))
    bentoml.models.export_model("sklearn:latest", str(folder / "sklearn.bentomodel"))


FROM_CODE = """
import mlflow

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

mlflow.models.set_model(Echo())
"""
SERVICE = """
import bentoml
import numpy as np

@bentoml.service(name="scorer")
class Scorer:
    model = bentoml.models.BentoModel("sklearn:latest")

    @bentoml.api
    def classify(self, x: np.ndarray) -> np.ndarray:
        return x
"""


def bentoml_torch(folder):
    import bentoml
    import torch

    net = network()
    bentoml.pytorch.save_model("pytorch", net)
    bentoml.torchscript.save_model("torchscript", torch.jit.trace(net, torch.tensor(ROWS)))
    import pytorch_lightning  # the name that BentoML knows; it comes with lightning

    bentoml.pytorch_lightning.save_model("lightning", lightning_module(pytorch_lightning))


def bentoml_tf(folder):
    import bentoml

    bentoml.keras.save_model("keras", keras_model())
    bentoml.tensorflow.save_model("tensorflow", tf_module())


def triton(folder):
    """The two kinds of file that its PyTorch and TensorFlow back-ends run."""
    import tensorflow as tf
    import torch

    torch.jit.save(torch.jit.trace(network(), torch.tensor(ROWS)), str(folder / "model.pt"))
    tf.saved_model.save(tf_module(), str(folder / "model.savedmodel"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    group, target = sys.argv[1], Path(sys.argv[2])
    os.environ["BENTOML_HOME"] = str(target / "home")
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{target / 'mlflow.db'}"
    np.savez(target / "rows.npz", x=ROWS)
    names = [f"{tool}_{group}" for tool in ("mlflow", "bentoml")]
    for name in [group] if group == "triton" else names:
        globals()[name](target)
