"""The kinds of source, one row each: how it is recognised, who converts it, whether it is code.

A new source is a row here and a file ``converters/sources/NAME.py`` with
``export(job, samples) -> Exported``. Words only: no framework is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from converters.sources.look import Look


def _never(_look: Look) -> bool:
    return False


def _nothing(_look: Look) -> str:
    return ""


def _always(reason: str) -> Callable[[Look], str]:
    return lambda _look: reason


@dataclass(frozen=True)
class SourceKind:
    """One kind of source.

    Args:
        name: the word for ``--kind``, and the file in ``converters/sources/`` that imports the
            framework.
        extra: the extra of pyproject.toml that brings it.
        suffixes: endings that are taken for it where the content says nothing.
        recognise: tells it by content; asked before any ending is.
        runs_code: why opening it can run code; empty when it cannot.
        refuse: why one of this kind is not taken as it is, and what to do; empty when it is.
        imports: packages whose import in the module of ``module:factory`` speaks for it.
        python: the first Python that its extra brings it for; as everything else where empty.
    """

    name: str
    extra: str
    suffixes: tuple[str, ...] = ()
    recognise: Callable[[Look], bool] = _never
    runs_code: Callable[[Look], str] = _nothing
    refuse: Callable[[Look], str] = _nothing
    imports: tuple[str, ...] = ()
    python: tuple[int, ...] = ()

    @property
    def module(self) -> str:
        """The one file that imports the framework."""
        return f"converters.sources.{self.name}"


FACTORY = "module:factory runs the module's code"


TENSORS_ONLY = ("torch._utils.", "torch._tensor.", "torch.serialization.", "collections.", "numpy.")
"""Where the globals of a plain state dict come from, beside the storage types of ``torch``."""


def _is_keras(look: Look) -> bool:
    return look.start[:8] == b"\x89HDF\r\n\x1a\n" or (
        look.is_zip and {"config.json", "model.weights.h5"} <= look.names
    )


def _refuse_renamed_keras(look: Look) -> str:
    """Keras goes by the ending, so what it is must agree with what it is called."""
    if not _is_keras(look):
        return "neither a zip archive of Keras nor HDF5, so nothing that Keras wrote"
    endings = (".keras",) if look.is_zip else (".h5", ".hdf5")
    if look.suffix in endings:
        return ""
    return f"this is a Keras model in the {endings[0]} form; rename it to end in {endings[0]}"


def _is_archive(look: Look) -> bool:
    return look.is_zip and "archive_format" in look.names


def _is_script(look: Look) -> bool:
    return look.is_zip and "constants.pkl" in look.names and not _is_archive(look)


def _is_checkpoint(look: Look) -> bool:
    return "pytorch-lightning_version" in look.words


def _refuse_bare_checkpoint(look: Look) -> str:
    if look.is_zip or look.is_pickle:
        return (
            "a Lightning checkpoint, which does not name its class: give module:Class and "
            f"--weights {look.path.name}"
        )
    return "not a Lightning checkpoint; give module:Class and --weights CHECKPOINT"


def _is_pickled_torch(look: Look) -> bool:
    return (look.is_zip and "data.pkl" in look.names) or (
        look.is_pickle and any(name.startswith("torch.") for name in look.globals)
    )


def _is_module(look: Look) -> bool:
    """A pickled module asks for classes; a state dict for tensors alone."""
    classes = [
        name
        for name in look.globals
        if not name.startswith(TENSORS_ONLY) and not re.fullmatch(r"torch\.\w+", name)
    ]
    return _is_pickled_torch(look) and bool(classes)


def _refuse_weights_alone(look: Look) -> str:
    if not look.is_zip and not look.is_pickle:
        return "neither a zip archive nor a pickle, so nothing that PyTorch wrote"
    if _is_archive(look) or _is_module(look) or not _is_pickled_torch(look):
        return ""
    return f"weights alone: give module:factory and --weights {look.path.name}"


def _torch_code(look: Look) -> str:
    if _is_archive(look) or look.suffix == ".pt2":
        return "torch.export.load unpickles constants and unusual weights of a .pt2 archive"
    named = ", ".join(sorted(look.globals - {"collections.OrderedDict"})[:3])
    return f"a pickled module is a program that runs when it is opened (it asks for {named})"


def _is_saved_model(look: Look) -> bool:
    return look.is_folder and bool(look.names & {"saved_model.pb", "saved_model.pbtxt"})


def _is_tflite(look: Look) -> bool:
    return look.start[4:8] == b"TFL3"


def _is_skops(look: Look) -> bool:
    return look.is_zip and "schema.json" in look.names


def _opening_an_estimator(look: Look) -> str:
    if _is_skops(look):
        return "a .skops file makes objects of the classes that it names"
    return "a pickle is a program that runs when it is opened"


def _is_estimator(look: Look) -> bool:
    if _is_skops(look):
        return True
    return look.is_pickle and not _is_pickled_torch(look)


def _is_xgboost(look: Look) -> bool:
    """A JSON or UBJSON object whose first key is XGBoost's."""
    binary = b"{L\0\0\0\0\0\0\0\x07learner"
    return look.start.startswith(binary) or bool(re.match(rb'\s*\{\s*"learner"', look.start))


def _is_lightgbm(look: Look) -> bool:
    return bool(re.match(rb"tree\r?\nversion=v", look.start))


def _is_catboost(look: Look) -> bool:
    return look.start.startswith(b"CBM1")


KINDS: tuple[SourceKind, ...] = (
    SourceKind(
        "lightning",
        "edged[convert-lightning]",
        suffixes=(".ckpt",),
        recognise=_is_checkpoint,
        refuse=_refuse_bare_checkpoint,
        imports=("lightning", "pytorch_lightning"),
    ),
    SourceKind(
        "torchscript",
        "edged[convert-torch]",
        recognise=_is_script,
        runs_code=_always("TorchScript is a program that PyTorch runs"),
    ),
    SourceKind(
        "torch",
        "edged[convert-torch]",
        suffixes=(".pt2", ".pt", ".pth"),
        recognise=lambda look: _is_archive(look) or _is_pickled_torch(look),
        runs_code=_torch_code,
        refuse=_refuse_weights_alone,
        imports=("torch",),
    ),
    SourceKind(
        "jax",
        "edged[convert-jax]",
        refuse=lambda _look: "a JAX model is a function: give module:factory",
        imports=("jax", "flax"),
        python=(3, 11),
    ),
    SourceKind(
        "tensorflow",
        "edged[convert-tf]",
        recognise=_is_saved_model,
        runs_code=_always("a SavedModel is a program that TensorFlow runs; it may read files"),
        imports=("tensorflow",),
    ),
    SourceKind(
        "keras",
        "edged[convert-tf]",
        suffixes=(".keras", ".h5", ".hdf5"),
        recognise=_is_keras,
        refuse=_refuse_renamed_keras,
        imports=("keras", "tf_keras"),
    ),
    SourceKind(
        "tflite",
        "edged[convert-tf]",
        suffixes=(".tflite",),
        recognise=_is_tflite,
        refuse=lambda look: "" if _is_tflite(look) else "its first bytes are not TFLite's",
    ),
    SourceKind("onnx", "edged[convert]", suffixes=(".onnx",)),
    SourceKind("xgboost", "edged[convert-boost]", suffixes=(".ubj",), recognise=_is_xgboost),
    SourceKind("lightgbm", "edged[convert-boost]", recognise=_is_lightgbm),
    SourceKind("catboost", "edged[convert-boost]", suffixes=(".cbm",), recognise=_is_catboost),
    SourceKind(
        "sklearn",
        "edged[convert-sklearn]",
        suffixes=(".joblib", ".pkl", ".pickle", ".skops"),
        recognise=_is_estimator,
        runs_code=_opening_an_estimator,
    ),
)
"""In the order in which they are asked: the narrower sign first."""

BY_NAME = {kind.name: kind for kind in KINDS}

ADVICE = {
    ".pb": "a TensorFlow graph without its variables: give the SavedModel folder it lies in",
    ".safetensors": "weights alone: give module:factory and --weights",
    ".json": 'JSON that is not an XGBoost model (those begin with "learner")',
    ".txt": 'text that is not a LightGBM model (those begin with the line "tree")',
    ".npz": "numbers alone: give module:factory, or a file that holds the model too",
}
"""What to do with an ending that no kind takes."""
