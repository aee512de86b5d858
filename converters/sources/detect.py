"""Which framework a source belongs to, told from its name, first bytes and zip listing.

Never loads anything: a model file may be a program.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converters.errors import ConversionError, UnsupportedModelError
from converters.recipe import Recipe, is_factory

Framework = Literal["sklearn", "torch", "keras", "onnx"]

_BY_SUFFIX: dict[str, Framework] = {
    ".joblib": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".pt2": "torch",
    ".keras": "keras",
    ".onnx": "onnx",
}
_ADVICE = {
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
    ".ubj": "an XGBoost model: save the scikit-learn estimator with joblib or bring an .onnx file",
}


@dataclass(frozen=True)
class Detected:
    """What a source is.

    Args:
        framework: which converter takes it.
        runs_code: why opening it can run code; empty when it cannot.
    """

    framework: Framework
    runs_code: str = ""


def detect(recipe: Recipe) -> Detected:
    """Tell the framework of a source without opening more than its first bytes.

    Raises:
        UnsupportedModelError: nothing here takes it; says what to do.
        ConversionError: it is not there.
    """
    if is_factory(recipe.source):
        return Detected("torch", "module:factory runs the module's code")
    path = Path(recipe.source)
    if path.is_dir():
        raise UnsupportedModelError(
            f'source "{path.name}" is a folder (a SavedModel?): load it with Keras and save it as '
            ".keras, or bring an .onnx file"
        )
    if not path.is_file():
        raise ConversionError(
            f'source "{path}": no such file (a PyTorch factory is written module:factory)'
        )
    framework = recipe.kind if recipe.kind != "auto" else _guess(path)
    if framework == "sklearn":
        return Detected(framework, "a pickle is a program that runs when it is opened")
    if framework == "torch":
        return Detected(
            framework, "torch.export.load unpickles constants and unusual weights of a .pt2 archive"
        )
    if framework == "keras" and path.suffix.lower() != ".keras":
        # Keras goes by the ending, and its older versions run the code in an HDF5 file.
        raise UnsupportedModelError(
            f'source "{path.name}": a Keras model is taken from a .keras file only; if it is one, '
            "rename it to .keras, else load it with Keras and save it as .keras"
        )
    return Detected(framework)


def _guess(path: Path) -> Framework:
    suffix = path.suffix.lower()
    framework = _BY_SUFFIX.get(suffix) or _guess_by_content(path)
    if framework is None:
        advice = _ADVICE.get(suffix, "not a kind that is known here")
        raise UnsupportedModelError(
            f'source "{path.name}": {advice} (taken: {", ".join(sorted(_BY_SUFFIX))}, '
            "module:factory; or say --kind)"
        )
    return framework


def _guess_by_content(path: Path) -> Framework | None:
    with path.open("rb") as file:
        start = file.read(16)
    if start[:2] == b"\x80\x04" or start[:2] == b"\x80\x05":
        return "sklearn" if path.suffix not in _ADVICE else None
    if start[:4] != b"PK\x03\x04":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    if any(name.endswith("archive_format") for name in names):
        return "torch"
    return None
