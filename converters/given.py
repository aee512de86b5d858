"""What was given on the command line, as the fields of a recipe. Runs nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError
from converters.only_for import parse_only_for

if TYPE_CHECKING:
    from converters.recipe import Recipe

ONLY_INPUT = "*"
"""As in ``converters.recipe``: the one input of a model that has one."""
LABELS_CAP_BYTES = 4 << 20
"""A name a line: the largest sets of classes have some ten thousand."""


def fields_from(args: argparse.Namespace) -> dict[str, Any]:
    """Join the recipe file and the flags as plain values; a flag wins.

    Raises:
        ConversionError: a flag or the file is malformed; names it.
    """
    from converters.recipe import load_recipe_fields  # noqa: PLC0415  (numpy, yaml)

    fields: dict[str, Any] = load_recipe_fields(args.recipe) if args.recipe else {}
    names = (
        "source",
        "name",
        "release",
        "floor",
        "version",
        "kind",
        "target",
        "opset",
        "batch",
        "edges",
    )
    for name in (*names, "activation", "precision", "max_accuracy_drop", "truth"):
        value = getattr(args, name)
        if value is not None:
            fields[name] = value
    for name in ("samples", "weights", "calibration"):
        if getattr(args, name) is not None:
            fields[name] = str(getattr(args, name))
    for flag, name in (("input_name", "input_names"), ("output_name", "output_names")):
        if getattr(args, flag) is not None:
            fields[name] = _words(getattr(args, flag))
    if args.only_for is not None:
        fields["only_for"] = parse_only_for(args.only_for)
    if args.labels is not None:
        fields["labels"] = read_labels(args.labels)
    if args.features is not None and args.image is not None:
        raise ConversionError("--features and --image exclude each other: an input is one of them")
    if args.features is not None:
        work = {"kind": "features", "names": _words(args.features)}
        fields["input_processing"] = {ONLY_INPUT: work}
    if args.capture_topic is not None:
        fields["capture"] = {**fields.get("capture", {}), "topic": args.capture_topic}
    if args.free_axes is not None:
        fields["free_axes"] = parse_free_axes(args.free_axes)
    if args.image is not None:
        fields["input_processing"] = {ONLY_INPUT: parse_image(args.image)}
    if args.rtol is not None or args.atol is not None:
        given = {"rtol": args.rtol, "atol": args.atol}
        tolerance = {name: value for name, value in given.items() if value is not None}
        fields["tolerance"] = {**fields.get("tolerance", {}), **tolerance}
    return fields


def complete(fields: Mapping[str, Any], recipe: Path | None) -> Recipe:
    """Freeze fields, the registry's among them, into a recipe.

    Raises:
        ConversionError: something needed is missing or malformed; names the flag or field.
    """
    from converters.recipe import make_recipe  # noqa: PLC0415  (numpy, yaml)

    needed = ("source", "name", "release")
    missing = [name if name == "source" else f"--{name}" for name in needed if name not in fields]
    if missing:
        raise ConversionError(f"missing: {', '.join(missing)} (give them here or in a --recipe)")
    return make_recipe(fields, str(recipe) if recipe else "flags")


def read_labels(text: str) -> list[str]:
    """Labels as written, or one a line from ``@FILE``.

    Raises:
        ConversionError: the file cannot be read.
    """
    if not text.startswith("@"):
        return _words(text)
    from converters.documents import read_small  # noqa: PLC0415  (yaml)

    try:
        lines = read_small(Path(text[1:]), LABELS_CAP_BYTES, "are these labels?").splitlines()
    except ConversionError as exc:
        raise ConversionError(f"--labels: {exc.message}") from exc
    return [line.strip() for line in lines if line.strip()]


def parse_image(text: str) -> dict[str, Any]:
    """``8x8,mode=L,layout=flat,scale=0.0625`` as recipe fields.

    Raises:
        ConversionError: malformed; says the expected form.
    """
    size, *rest = text.split(",")
    width, _, height = size.lower().partition("x")
    work: dict[str, Any] = {"kind": "image"}
    try:
        work.update(width=int(width), height=int(height))
        for part in rest:
            key, value = part.split("=")
            if key in ("mean", "std"):
                work[key] = [float(number) for number in value.split("/")]
            else:
                work[key] = float(value) if key == "scale" else value
    except ValueError as exc:
        raise ConversionError(
            f'--image "{text}": expected WIDTHxHEIGHT,mode=L|RGB|BGR,layout=NCHW|NHWC|NHW|flat,'
            f"resize=exact|stretch|letterbox,scale=NUMBER,mean=A/B/C,std=A/B/C ({exc})"
        ) from exc
    return work


def parse_free_axes(text: str) -> dict[str, dict[int, str]]:
    """``tokens:1=time,image:2=height`` as the recipe's ``free_axes``.

    Raises:
        ConversionError: malformed; says the expected form.
    """
    axes: dict[str, dict[int, str]] = {}
    for word in _words(text):
        place, _, name = word.partition("=")
        key, _, axis = place.rpartition(":")
        if not key or not name or not axis.isdecimal():
            raise ConversionError(
                f'--free-axes "{word}": expected INPUT:AXIS=NAME, as tokens:1=time'
            )
        axes.setdefault(key, {})[int(axis)] = name
    return axes


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
