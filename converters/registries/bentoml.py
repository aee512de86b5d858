"""BentoML: a model of its store, a ``.bentomodel``, a Bento or a ``.bento``, read as data.

BentoML imports the module that ``model.yaml`` names; here that name is only a key of a table. The
service's own Python in a Bento cannot become a bundle: it is said, with the routes that it serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.archive import unpack
from converters.registries.files import (
    file_inside,
    inside,
    names_in,
    read_text,
    read_yaml,
    walk,
)
from converters.registries.mlflow_model import is_torchscript, resolve_folder
from converters.registries.resolved import Place, Resolved, mapping_of, model_name
from converters.registries.staging import copy_folder, stage_as, zip_folder
from edged.errors import NotFoundError

MODEL_YAML = "model.yaml"
BENTO_YAML = "bento.yaml"
SCHEME = "bentoml:/"
_UNPACKED_KERAS = ("metadata.json", "config.json", "model.weights.h5")

Taken = tuple[Path, list[str]]


def is_model_folder(path: Path) -> bool:
    """Whether a folder is a version of BentoML's store; looks at one name."""
    return (path / MODEL_YAML).is_file()


def is_bento_folder(path: Path) -> bool:
    """Whether a folder is a built Bento; looks at one name."""
    return (path / BENTO_YAML).is_file()


def resolve_tag(source: str, place: Place) -> Resolved:
    """Resolve ``bentoml:/name:version`` in the store.

    Raises:
        NotFoundError: the store has no such model or Bento; lists what it has.
        ConversionError: as ``resolve_model`` and ``resolve_bento``.
    """
    tag, _, wanted = source.removeprefix(SCHEME).partition("#")
    home = _home(place)
    folder = _find(home, "models", tag)
    if folder is not None:
        return resolve_model(folder, place)
    bento = _find(home, "bentos", tag)
    if bento is not None:
        return resolve_bento(bento, wanted, place, home / "models")
    known = [f"{name}:latest" for kind in ("models", "bentos") for name in names_in(home / kind)]
    raise NotFoundError(
        f'the BentoML store "{home}" has no "{tag}"; it has {", ".join(known[:10]) or "nothing"} '
        "(another store: --store FOLDER, or BENTOML_HOME)"
    )


def resolve_archive(path: Path, wanted: str, place: Place) -> Resolved:
    """Unpack a ``.bentomodel`` or ``.bento`` and read it.

    Raises:
        ConversionError: not such an archive, or as the two below.
    """
    folder = place.folder / "unpacked"
    folder.mkdir()
    place.progress(f"unpacking {path.name}")
    unpack(path, folder)
    if is_model_folder(folder):
        return resolve_model(folder, place)
    if is_bento_folder(folder):
        return resolve_bento(folder, wanted, place, folder / "models")
    raise ConversionError(f'"{path.name}" holds neither {MODEL_YAML} nor {BENTO_YAML}')


def resolve_model(folder: Path, place: Place) -> Resolved:
    """Read one version of a model.

    Raises:
        UnsupportedModelError: a module that cannot become a bundle; names it and what to do.
        ConversionError: the folder is not what BentoML writes.
    """
    values = read_yaml(file_inside(folder, MODEL_YAML, "BentoML model"))
    module = values.get("module")
    if not isinstance(module, str):
        raise ConversionError(f"{MODEL_YAML}: module is {module!r}, expected a text")
    tag = f"{values.get('name')}:{values.get('version')}"
    context = mapping_of(values, "context", MODEL_YAML)
    origin = {"tool": "bentoml", "tag": tag, "module": module,
              "bentoml_version": str(context.get("bentoml_version"))}  # fmt: skip
    named = {"name": model_name(str(values.get("name"))), "version": str(values.get("version"))}
    if module == "bentoml.mlflow":
        inner = resolve_folder(inside(folder, "mlflow_model", "bentoml.mlflow"), place)
        return replace(inner, fields={**named, **inner.fields}, origin={**inner.origin, **origin})
    take = _MODULES.get(module)
    if take is None:
        raise UnsupportedModelError(
            f'"{tag}" was saved by {module}, which cannot become a bundle; taken: '
            f"{', '.join(name for name in _MODULES if name)}. Bring the model as an .onnx file"
        )
    source, notes = take(folder, place)
    notes += _signature_notes(values)
    return Resolved({**named, "source": str(source)}, origin, tuple(notes))


def resolve_bento(folder: Path, wanted: str, place: Place, models: Path) -> Resolved:
    """Read the one model of a Bento, or the one that is asked for.

    Args:
        folder: the built Bento.
        wanted: the name or tag of one of its models; empty when it has one.
        place: where to put files.
        models: the model store that its tags mean.

    Raises:
        ConversionError: it has several models and none is asked for; lists them.
    """
    values = read_yaml(file_inside(folder, BENTO_YAML, "Bento"))
    tags = _model_tags(values)
    chosen = [tag for tag in tags if wanted in (tag, tag.partition(":")[0])] if wanted else tags
    if len(chosen) != 1:
        listed = ", ".join(tags) or "none"
        raise ConversionError(
            f'the Bento "{values.get("name")}" has the models {listed}; choose one: SOURCE#NAME'
        )
    model = _find(models.parent, models.name, chosen[0])
    if model is None:
        raise NotFoundError(
            f'the Bento names the model "{chosen[0]}", whose weights are not in it nor in '
            f'"{models}": export it with "bentoml export", or name the store with --store'
        )
    found = resolve_model(model, place)
    routes = _routes(values)
    bento = f"{values.get('name')}:{values.get('version')}"
    note = (
        f"the service's own Python ({routes}) is not converted: what it does before or after the "
        "model has to be done elsewhere"
    )
    return replace(found, origin={**found.origin, "bento": bento}, notes=(*found.notes, note))


def _model_tags(values: dict[str, Any]) -> list[str]:
    """Tags of the declared models; the services' lists are the ones that are always filled."""
    services = values.get("services") or []
    lists = [values.get("models"), *(s.get("models") for s in services if isinstance(s, dict))]
    tags = [
        entry if isinstance(entry, str) else str(entry.get("tag"))
        for models in lists
        for entry in (models if isinstance(models, list) else [])
        if isinstance(entry, str | dict)
    ]
    return list(dict.fromkeys(tags))


def _routes(values: dict[str, Any]) -> str:
    routes = mapping_of(values, "schema", BENTO_YAML).get("routes") or []
    names = [str(route.get("route")) for route in routes if isinstance(route, dict)]
    return f"routes {', '.join(names)}" if names else f"service {values.get('service')}"


def _signature_notes(values: dict[str, Any]) -> list[str]:
    """Batch axes other than the first: a bundle's rows are on axis 0."""
    notes = []
    for name, entry in mapping_of(values, "signatures", MODEL_YAML).items():
        axes = entry.get("batch_dim") if isinstance(entry, dict) else None
        if axes not in (None, [0, 0], 0):
            notes.append(
                f'method "{name}" batches on axes {axes}; a bundle has its rows on axis 0, which '
                "is proven or refused"
            )
    return notes


def _home(place: Place) -> Path:
    named = place.store or os.environ.get("BENTOML_HOME") or str(Path.home() / "bentoml")
    home = Path(named)
    if not (home / "models").is_dir():
        raise ConversionError(
            f'"{home}" is no BentoML store (it has no folder "models"); name one with --store or '
            "BENTOML_HOME"
        )
    return home


def _find(home: Path, kind: str, tag: str) -> Path | None:
    """The folder of a tag; None when it is not there. No version means the latest."""
    name, _, version = tag.partition(":")
    if name not in names_in(home / kind):
        return None
    versions = home / kind / name
    if version in ("", "latest"):
        if "latest" not in names_in(versions):
            return None
        version = read_text(file_inside(versions, "latest", "BentoML store"), 256).strip()
    return inside(versions, version, "BentoML store") if version in names_in(versions) else None


def _file(name: str, ending: str, note: str = "") -> Callable[[Path, Place], Taken]:
    def take(folder: Path, place: Place) -> Taken:
        path = file_inside(folder, name, "BentoML model")
        return stage_as(path, ending, place), [note] if note else []

    return take


def _torch(folder: Path, place: Place) -> Taken:
    path = file_inside(folder, "saved_model.pt", "bentoml.pytorch")
    if is_torchscript(path):
        return path, []
    return stage_as(path, ".pth", place), ["saved_model.pt is a pickled module"]


def _tensorflow(folder: Path, place: Place) -> Taken:
    """A SavedModel or Keras file at the root: told by what is there."""
    names = names_in(folder)
    if set(_UNPACKED_KERAS) <= set(names):
        members = [str(path.relative_to(folder)) for path in walk(folder)]
        members = [name for name in members if name != MODEL_YAML]
        target = zip_folder(members, folder, place.folder / "model.keras")
        return target, ["BentoML keeps the .keras file unpacked; it was packed again"]
    files = [name for name in names if name.endswith((".keras", ".h5"))]
    if len(files) == 1:
        return file_inside(folder, files[0], "BentoML model"), []
    if "saved_model.pb" in names:
        target = place.folder / "saved_model"
        copy_folder(folder, target, without=MODEL_YAML)
        return target, []
    raise ConversionError(
        f'"{folder.name}" holds neither a SavedModel nor a Keras file (it holds '
        f"{', '.join(names[:10])})"
    )


def _raw(folder: Path, place: Place) -> Taken:  # noqa: ARG001
    """models.create: whatever the user put there."""
    names = [name for name in names_in(folder) if name != MODEL_YAML]
    if len(names) == 1:
        return inside(folder, names[0], "BentoML model"), []
    raise ConversionError(
        f'"{folder.name}" was made with models.create, holds {", ".join(names[:10]) or "nothing"}'
        f": convert the model file itself ({folder}/FILE)"
    )


_MODULES: dict[str, Callable[[Path, Place], Taken]] = {
    "bentoml.sklearn": _file("saved_model.pkl", ".pkl"),
    "bentoml.pytorch": _torch,
    "bentoml.torchscript": _torch,
    "bentoml.pytorch_lightning": _torch,
    "bentoml.onnx": _file("saved_model.onnx", ".onnx"),
    "bentoml.tensorflow": _tensorflow,
    "bentoml.tensorflow_v2": _tensorflow,
    "bentoml.keras": _tensorflow,
    "bentoml.xgboost": _file("saved_model.ubj", ".ubj"),
    # NOTE: BentoML calls it .ubj, the content is LightGBM's text.
    "bentoml.lightgbm": _file("saved_model.ubj", ".lgb"),
    "bentoml.catboost": _file("saved_model.cbm", ".cbm"),
    "bentoml.picklable_model": _file(
        "saved_model.pkl", ".pkl", "picklable_model: taken if a scikit-learn estimator is inside"
    ),
    "": _raw,
}
"""``module`` of model.yaml → what to take. The text is never imported."""
