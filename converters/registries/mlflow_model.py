"""An MLflow model folder: MLmodel read as data, and which of our sources takes the weights.

Decides by the flavor block and by what lies on disk; where they disagree the disk is right (MLflow
writes ``save_format: tf`` beside a .keras file, ``skops`` beside LightGBM text). Opens no model.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.files import file_inside, inside, names_in, read_text, read_yaml, walk
from converters.registries.mlflow_example import read_example, read_signature
from converters.registries.resolved import Place, Resolved, mapping_of, text_of
from converters.registries.staging import stage_as

MLMODEL = "MLmodel"
NEWEST = (3, 99)
"""The newest MLflow layout that is known here; a later major version may mean other things."""

Flavor = tuple[Path, list[str]]

_PACKAGES = {
    "sklearn": ("sklearn_version", "scikit-learn"),
    "pytorch": ("pytorch_version", "torch"),
    # NOTE: the block of tensorflow calls TensorFlow's own version keras_version.
    "tensorflow": ("keras_version", "tensorflow-cpu", "tensorflow"),
    "keras": ("keras_version", "keras"),
    "xgboost": ("xgb_version", "xgboost-cpu", "xgboost"),
    "lightgbm": ("lgb_version", "lightgbm"),
    "catboost": ("catboost_version", "catboost"),
}
"""Flavor: where the block keeps a version, and the names of the package that it is of."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder is an MLflow model; looks at one name."""
    return (path / MLMODEL).is_file()


def resolve_folder(folder: Path, place: Place) -> Resolved:
    """Read a model folder.

    Raises:
        UnsupportedModelError: a flavor that cannot become a bundle; names it and what to do.
        ConversionError: the folder or its MLmodel is not what MLflow writes.
    """
    values = read_yaml(file_inside(folder, MLMODEL, "MLflow model"))
    _check_version(values)
    flavors = mapping_of(values, "flavors", MLMODEL)
    name, block = _choose(flavors)
    source, notes = _FLAVORS[name](folder, block, place)
    notes = [*notes, *_version_notes(name, block, folder)]
    predict = mapping_of(flavors, "python_function", MLMODEL).get("predict_fn")
    if predict not in (None, "predict"):
        notes.append(f"MLflow serves this model by {predict}; the bundle has every output")
    signature = read_signature(values)
    fields: dict[str, Any] = {"source": str(source)}
    example = read_example(folder, values, signature, place)
    if example is not None:
        fields["samples"] = str(example)
        notes.append("the samples are the model's input example, so the bundle counts as checked")
    elif values.get("saved_input_example_info"):
        notes.append("the input example has one row, which proves nothing: bring --samples")
    if signature.columns and signature.is_numeric and name not in ("pytorch", "onnx"):
        fields["input_processing"] = {"*": {"kind": "features", "names": list(signature.columns)}}
    if block.get("code"):
        notes.append(
            f'the model brings code of its own ("{block["code"]}"), which is not imported: start '
            "edged-convert where that code is importable"
        )
    origin = {"tool": "mlflow", "flavor": name, "mlflow_version": str(values["mlflow_version"])}
    for key in ("model_id", "run_id"):
        if isinstance(values.get(key), str):
            origin[key] = values[key]
    return Resolved(fields, origin, tuple(notes), examples=example is not None)


def _check_version(values: dict[str, Any]) -> None:
    written = values.get("mlflow_version")
    if written is None:
        # Before 1.20 it was not written.
        values["mlflow_version"] = "unknown"
        return
    digits = str(written).split(".")[:2]
    try:
        version = tuple(int(part) for part in digits)
    except ValueError:
        raise ConversionError(f'{MLMODEL}: mlflow_version "{written}" is not a version') from None
    if version > NEWEST:
        raise UnsupportedModelError(
            f"{MLMODEL}: written by MLflow {written}; its layout is known here up to "
            f"{NEWEST[0]}.x: a newer edged-convert may read it"
        )


def _choose(flavors: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The flavor to convert: the framework's own, before the general python_function."""
    for name in _FLAVORS:
        if name in flavors and name != "python_function":
            return name, mapping_of(flavors, name, MLMODEL)
    others = sorted(name for name in flavors if name != "python_function")
    if others:
        raise UnsupportedModelError(
            f"MLflow flavor {', '.join(others)} cannot become a bundle; taken: "
            f"{', '.join(name for name in _FLAVORS if name != 'python_function')}. Bring the model "
            "as an .onnx file"
        )
    if "python_function" in flavors:
        return "python_function", mapping_of(flavors, "python_function", MLMODEL)
    raise ConversionError(f"{MLMODEL}: has no flavor, so nothing says what the model is")


def _sklearn(folder: Path, block: dict[str, Any], place: Place) -> Flavor:
    path = file_inside(folder, text_of(block, "pickled_model", "flavor sklearn"), "flavor sklearn")
    ending = ".skops" if block.get("serialization_format") == "skops" else ".pkl"
    return stage_as(path, ending, place), []


def _pytorch(folder: Path, block: dict[str, Any], place: Place) -> Flavor:
    data = text_of(block, "model_data", "flavor pytorch")
    if "model.pt2" in names_in(inside(folder, data, "flavor pytorch")):
        return file_inside(folder, f"{data}/model.pt2", "flavor pytorch"), []
    path = file_inside(folder, f"{data}/model.pth", "flavor pytorch")
    if is_torchscript(path):
        return stage_as(path, ".pt", place), ["data/model.pth is TorchScript"]
    return stage_as(path, ".pth", place), ["data/model.pth is a pickled module"]


def is_torchscript(path: Path) -> bool:
    """Whether a PyTorch file holds a TorchScript program; lists its names, opens nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return any(PurePosixPath(name).match("*/constants.pkl") for name in names) and any(
        "/code/" in name for name in names
    )


def _keras(folder: Path, block: dict[str, Any], place: Place) -> Flavor:  # noqa: ARG001
    if block.get("model_type") == "tf2-module":
        saved = text_of(block, "saved_model_dir", "flavor tensorflow")
        return _saved_model(inside(folder, saved, "flavor tensorflow")), []
    data = inside(folder, text_of(block, "data", "flavor keras"), "flavor keras")
    for name in ("model.keras", "model.h5"):
        if (data / name).exists():
            return file_inside(data, name, "flavor keras"), []
    if (data / "model").is_dir():
        return _saved_model(inside(data, "model", "flavor keras")), []
    raise ConversionError(
        f'flavor keras: "{data.name}" holds neither model.keras, model.h5 nor a SavedModel "model" '
        f"(it holds {', '.join(names_in(data)[:10]) or 'nothing'})"
    )


def _saved_model(folder: Path) -> Path:
    files = {str(path.relative_to(folder)) for path in walk(folder)}
    if "saved_model.pb" not in files:
        raise ConversionError(f'"{folder.name}" is no SavedModel: it has no saved_model.pb')
    return folder


def _onnx(folder: Path, block: dict[str, Any], place: Place) -> Flavor:  # noqa: ARG001
    return file_inside(folder, text_of(block, "data", "flavor onnx"), "flavor onnx"), []


def _xgboost(folder: Path, block: dict[str, Any], place: Place) -> Flavor:
    path = file_inside(folder, text_of(block, "data", "flavor xgboost"), "flavor xgboost")
    # Older releases called any of the three forms model.xgb.
    return (path if path.suffix in (".ubj", ".json") else stage_as(path, ".ubj", place)), []


def _lightgbm(folder: Path, block: dict[str, Any], place: Place) -> Flavor:
    path = file_inside(folder, text_of(block, "data", "flavor lightgbm"), "flavor lightgbm")
    if path.suffix == ".skops" or path.suffix in (".pkl", ".pickle"):
        return path, []
    return stage_as(path, ".lgb", place), []


def _catboost(folder: Path, block: dict[str, Any], place: Place) -> Flavor:
    if block.get("save_format", "cbm") != "cbm":
        raise UnsupportedModelError(
            f"flavor catboost: saved as {block['save_format']}; save it as cbm, CatBoost's own form"
        )
    path = file_inside(folder, text_of(block, "data", "flavor catboost"), "flavor catboost")
    return stage_as(path, ".cbm", place), []


def _pyfunc(folder: Path, block: dict[str, Any], place: Place) -> Flavor:  # noqa: ARG001
    # NOTE: model_code_path is the absolute path of the training machine; only its name is said.
    code = block.get("model_code_path") or block.get("python_model") or block.get("loader_module")
    artefacts = ", ".join(mapping_of(block, "artifacts", "flavor python_function")) or "none"
    raise UnsupportedModelError(
        f'this MLflow model is Python code (python_function, "{PurePosixPath(str(code)).name}"): '
        f"what it computes is not in any model file. Convert the model that the code calls (its "
        f"artifacts: {artefacts}), do the code's own steps before or after it, or log the "
        "framework's model with its own flavor (mlflow.sklearn, mlflow.pytorch, mlflow.onnx, …)"
    )


_FLAVORS: dict[str, Callable[[Path, dict[str, Any], Place], Flavor]] = {
    "onnx": _onnx,
    "sklearn": _sklearn,
    "pytorch": _pytorch,
    "keras": _keras,
    "tensorflow": _keras,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
    "python_function": _pyfunc,
}


def _version_notes(name: str, block: dict[str, Any], folder: Path) -> list[str]:
    """Where the model was saved by another version of its framework than is installed here."""
    key, *packages = _PACKAGES.get(name, ("", ""))
    written = str(block.get(key) or "")
    if not written:
        return []
    saved = f"the model was saved with {packages[-1]} {written}"
    for package in packages:
        try:
            here = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        is_same = here.split("+")[0] == written.split("+", maxsplit=1)[0]
        return [] if is_same else [f"{saved}; {here} is installed here"]
    wanted = _requirement(folder, packages[-1]) or f"{packages[-1]}=={written}"
    return [f"{saved}, not installed here ({wanted})"]


def _requirement(folder: Path, package: str) -> str:
    """The line of requirements.txt that pins a package; a hint, for MLflow guesses them."""
    if "requirements.txt" not in names_in(folder):
        return ""
    for line in read_text(folder / "requirements.txt").splitlines():
        if line.split("=")[0].split("<")[0].split(">")[0].strip() == package:
            return f"its requirements.txt: {line.strip()[:80]}"
    return ""
