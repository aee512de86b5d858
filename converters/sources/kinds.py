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
    """

    name: str
    extra: str
    suffixes: tuple[str, ...] = ()
    recognise: Callable[[Look], bool] = _never
    runs_code: Callable[[Look], str] = _nothing
    refuse: Callable[[Look], str] = _nothing
    imports: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The one file that imports the framework."""
        return f"converters.sources.{self.name}"


FACTORY = "module:factory runs the module's code"


def _is_keras(look: Look) -> bool:
    return look.is_zip and {"config.json", "model.weights.h5"} <= look.names


def _refuse_other_than_keras(look: Look) -> str:
    """Keras goes by the ending, and its older versions run the code in an HDF5 file."""
    if look.suffix == ".keras":
        return ""
    return (
        "a Keras model is taken from a .keras file only; if it is one, rename it to .keras, else "
        "load it with Keras and save it as .keras"
    )


def _is_archive(look: Look) -> bool:
    return look.is_zip and "archive_format" in look.names


def _is_skops(look: Look) -> bool:
    return look.is_zip and "schema.json" in look.names


def _opening_an_estimator(look: Look) -> str:
    if _is_skops(look):
        return "a .skops file makes objects of the classes that it names"
    return "a pickle is a program that runs when it is opened"


def _is_estimator(look: Look) -> bool:
    if _is_skops(look):
        return True
    return look.is_pickle and not any(name.startswith("torch.") for name in look.globals)


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
        "torch",
        "edged[convert-torch]",
        suffixes=(".pt2",),
        recognise=_is_archive,
        runs_code=_always(
            "torch.export.load unpickles constants and unusual weights of a .pt2 archive"
        ),
        imports=("torch",),
    ),
    SourceKind(
        "keras",
        "edged[convert-tf]",
        suffixes=(".keras",),
        recognise=_is_keras,
        refuse=_refuse_other_than_keras,
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
    ".h5": "an HDF5 model: load it with Keras and save it as .keras",
    ".hdf5": "an HDF5 model: load it with Keras and save it as .keras",
    ".pb": "a TensorFlow graph: load it with Keras and save it as .keras, or bring an .onnx file",
    ".tflite": "a TFLite model: convert it with tf2onnx --tflite and bring the .onnx file",
    ".pt": "weights or TorchScript: save the module with torch.export.save as .pt2, or give "
    "module:factory with --weights",
    ".pth": "weights or TorchScript: save the module with torch.export.save as .pt2, or give "
    "module:factory with --weights",
    ".safetensors": "weights alone: give module:factory and --weights",
    ".ckpt": "a training checkpoint: give module:factory and --weights",
    ".json": 'JSON that is not an XGBoost model (those begin with "learner")',
    ".txt": 'text that is not a LightGBM model (those begin with the line "tree")',
}
"""What to do with an ending that no kind takes."""
