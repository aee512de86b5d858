"""Recipe: everything that decides the bytes of a bundle, and nothing else.

A recipe never holds permission to run code, a signing key or an output path: a recipe that somebody
sends must not be able to grant itself anything. Its digest names contents (sha256 of the files it
points to), never paths, so it is the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from converters.baked.words import Bake
from converters.documents import parse_yaml, read_small
from converters.errors import ConversionError
from converters.targets.table import DEFAULT_TARGET, MIN_OPSET, find_target
from edged.manifest import Release, Targets, Tolerance
from edged.specs import MODEL_NAME, FieldSpec, InputProcessing

TargetName = Literal["cpu", "cpu-py311", "jetpack6", "jetpack7"]
"""As in ``targets.table``; a test holds the two together."""
Axis = Annotated[int, Meta(ge=1, le=7)]
AxisName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,30}$")]
HALF_TOLERANCE = Tolerance(rtol=0.01, atol=0.001)
"""float16 has three digits, and a deep network loses one of them; atol is meant for probabilities.
Scores of some tens lose a thousandth of the largest, which the user has to allow."""
RECIPE_CAP_BYTES = 1 << 20
"""A recipe is a page of text; a long list of labels still fits in 1 MiB."""
PATHS = ("source", "samples", "weights", "calibration")
"""Fields that name files."""
ONLY_INPUT = "*"
"""In ``input_processing``: the one input of a model that has one, whatever it is called."""


class Capture(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which messages of a recording the model gets, and how; as a binding of the daemon says it.

    Args:
        topic: a topic filter, a binding's ``from``; empty takes all.
        codec: ``json``, ``image`` or ``raw``; ``auto`` is ``image`` where the bundle says how a
            picture becomes the input, else ``json``.
        input: the input to fill; default the only one.
        fields: JSON paths of the columns; default the columns' own names.
    """

    topic: Annotated[str, Meta(max_length=1024)] = ""
    codec: Literal["auto", "json", "image", "raw"] = "auto"
    input: str | None = None
    fields: tuple[str | FieldSpec, ...] = ()


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one bundle is made.

    Args:
        source: the model file or folder, or ``module:factory`` for a model built by code.
        samples: real inputs (.npz, .npy or .csv); the numbers are proven on them. Empty: rows are
            made from the signature, and the bundle counts as checked, not as verified.
        samples_are: ``own`` data; or an ``example`` that came with the model, which proves less:
            the bundle counts as checked.
        name: the model's name.
        release: rises with every bundle of that name.
        floor: once this bundle proved good on a device, it accepts no release below that any more.
        only_for: which devices take it: by ``architecture`` or a label, what theirs may be.
        version: for people; default ``release`` with ``.0.0``.
        kind: a name of ``converters.sources.kinds``, or ``auto`` to tell by looking.
        target: the kind of device that must take it (``targets.table``).
        weights: the state dict for ``module:factory`` (.safetensors, or .pt read weights-only).
        opset: the ONNX operator set; default 18 (an .onnx source keeps its own).
        batch: ``rows`` when axis 0 of every input and output is the row axis (proven), ``none``
            for a model whose call cannot be split into rows.
        free_axes: for ``module:factory``: further axes of an input that may have any length, with
            a name each (``tokens: {1: time}``); axis 0 is free already.
        input_names: new names for the first inputs; the rest keep theirs.
        output_names: new names for the first outputs; the rest keep theirs.
        labels: names of the last axis of the first output; a scikit-learn classifier brings its
            own.
        activation: what is still to be applied to the first output to get probabilities.
        input_processing: by input name, or under ``*`` for the only input.
        bake: pre-processing of pictures that goes into the model itself, by the samples' input
            name, or under ``*`` for the only input; the samples are raw pictures then.
        tolerance: how far outputs may be from the framework's.
        golden_rows: how many samples travel with the bundle, beside the edge cases.
        edges: ``auto`` also proves rows of zeros, extremes and missing values; ``none`` does not.
        timeout_s: how long the framework may take.
        python: another interpreter that has the framework, for its process; asks for ``--trust``,
            because a program that a file names is run.
        precision: ``float32``; ``float16`` for GPUs, ``int8`` for CPUs (``converters.precision``;
            where the target has TensorRT, a further file for that), or ``float32,int8`` for both
            in one bundle, where the device takes what is faster there and int8 is left out beyond
            ``max_accuracy_drop``. With float16 the default ``tolerance`` is HALF_TOLERANCE.
        calibration: rows that the ranges of int8 are taken from: a file like ``samples``, a folder
            of pictures, or a recording of MQTT messages (.jsonl).
        capture: which messages of a recording count, and how they are decoded.
        calibration_method: the whole range of each value, or 99.99 % of it.
        max_accuracy_drop: the share that a lower precision may lose: of accuracy where ``truth`` is
            known (int8), else of labels that stay as they are in float32.
        truth: the array (or CSV column) of the samples with the right class of each row.
        origin: what a registry says of the source (names and ids), for the provenance.
    """

    source: Annotated[str, Meta(min_length=1)]
    name: Annotated[str, Meta(pattern=MODEL_NAME)]
    release: Release
    samples: str = ""
    samples_are: Literal["own", "example"] = "own"
    version: Annotated[str, Meta(max_length=64)] = ""
    floor: Release | UnsetType = UNSET
    only_for: Targets | UnsetType = UNSET
    kind: Annotated[str, Meta(pattern="^[a-z0-9_]{1,32}$")] = "auto"
    target: Annotated[str, Meta(pattern="^[a-z0-9_-]{1,32}$")] = DEFAULT_TARGET
    weights: str | None = None
    opset: Annotated[int, Meta(ge=MIN_OPSET, le=28)] | None = None
    batch: Literal["rows", "none"] = "rows"
    free_axes: dict[str, dict[Axis, AxisName]] = msgspec.field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    input_processing: dict[str, InputProcessing] = msgspec.field(default_factory=dict)
    bake: dict[str, Bake] = msgspec.field(default_factory=dict)
    tolerance: Tolerance = Tolerance()
    golden_rows: Annotated[int, Meta(ge=8, le=256)] = 16
    edges: Literal["auto", "none"] = "auto"
    timeout_s: Annotated[int, Meta(ge=1, le=86400)] = 1800
    python: str = ""
    precision: Literal["float32", "float16", "int8", "float32,int8"] = "float32"
    calibration: str = ""
    capture: Capture = Capture()
    calibration_method: Literal["minmax", "percentile"] = "minmax"
    max_accuracy_drop: Annotated[float, Meta(ge=0, le=1)] = 0.005
    truth: Annotated[str, Meta(max_length=256)] = ""
    origin: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """The files and folders that it is made of, by field."""
        values = {name: getattr(self, name) for name in PATHS}
        return {
            name: value
            for name, value in values.items()
            if value and not (name == "source" and is_factory(value))
        }

    @property
    def human_version(self) -> str:
        """The version that people read."""
        return self.version or f"{self.release}.0.0"

    def digest(self, contents: Mapping[str, str]) -> str:
        """Sha256 of what the recipe says, with contents in the place of paths.

        Args:
            contents: what stands for each of ``PATHS``: the sha256 of the file's bytes, or the text
                itself for ``module:factory``.
        """
        fields = msgspec.to_builtins(self)
        for name in PATHS:
            fields[name] = contents.get(name)
        del fields["timeout_s"], fields["python"]
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def load_recipe_fields(path: Path) -> dict[str, Any]:
    """Read a recipe's YAML as plain values, so that flags may still override single fields.

    Relative paths in it are relative to the recipe.

    Raises:
        ConversionError: unreadable, not YAML or not a mapping; says the line.
    """
    fields = parse_yaml(read_small(path, RECIPE_CAP_BYTES, "is this a recipe?"), str(path))
    place_paths(fields, path.parent)
    return fields


def place_paths(fields: dict[str, Any], folder: Path) -> None:
    """Let the relative paths among recipe fields start from a folder; changes the fields."""
    for name in PATHS:
        value = fields.get(name)
        if isinstance(value, str) and value and not (name == "source" and is_elsewhere(value)):
            fields[name] = str(folder / value)
    python = fields.get("python")
    if isinstance(python, str) and "/" in python:
        fields["python"] = str(folder / python)


def make_recipe(fields: Mapping[str, Any], origin: str = "recipe") -> Recipe:
    """Check plain values and freeze them.

    Raises:
        ConversionError: names the field, what was expected and the fields that exist.
    """
    plain = dict(fields)
    if "max_accuracy_drop" in plain:
        plain["max_accuracy_drop"] = parse_share(plain["max_accuracy_drop"])
    try:
        recipe = msgspec.convert(plain, type=Recipe)
    except msgspec.ValidationError as exc:
        known = f" (fields: {', '.join(Recipe.__struct_fields__)})"
        raise ConversionError(f"{origin}: {exc}{known if 'field' in str(exc) else ''}") from exc
    except ValueError as exc:  # a text with half a character in it
        raise ConversionError(f"{origin}: {exc}") from exc
    find_target(recipe.target)
    _check_precision(recipe)
    if recipe.precision == "float16" and "tolerance" not in plain:
        recipe = msgspec.structs.replace(recipe, tolerance=HALF_TOLERANCE)
    return recipe


def parse_share(value: object) -> object:
    """``0.5%`` as 0.005; anything else as it is."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return value
    return share if math.isfinite(share) else value


def _check_precision(recipe: Recipe) -> None:
    if recipe.precision == "float32":
        return
    if "int8" in recipe.precision and not recipe.calibration:
        raise ConversionError(
            f"precision {recipe.precision}: expected a calibration file (--calibration PATH: "
            "some hundred real inputs: .npz, .npy, .csv, a folder of pictures, or a recording of "
            "MQTT messages, .jsonl), got none"
        )
    if not recipe.samples or recipe.batch != "rows":
        raise ConversionError(
            f"precision {recipe.precision} is judged row by row on real data: expected --samples "
            f"and batch rows, got {'no samples' if not recipe.samples else 'batch none'}"
        )


def is_factory(source: str) -> bool:
    """Whether a source is ``module:factory`` and not a path."""
    module, colon, factory = source.partition(":")
    dotted = module.replace(".", "a")
    return bool(colon) and dotted.isidentifier() and factory.isidentifier()


def is_elsewhere(source: str) -> bool:
    """Whether a source is no path: a factory, or a URI of a registry."""
    return is_factory(source) or source.startswith(("models:/", "runs:/", "bentoml:/"))
