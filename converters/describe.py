"""What a bundle says about data: pictures, columns and labels, checked against the tensors."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from converters.errors import ConversionError
from converters.recipe import ONLY_INPUT, Recipe
from converters.sources.base import SourceResult
from edged.manifest import TensorEntry
from edged.specs import FeaturesInput, ImageInput, InputProcessing, OutputProcessing, TextInput


def describe_processing(
    recipe: Recipe,
    inputs: Sequence[TensorEntry],
    outputs: Sequence[TensorEntry],
    result: SourceResult,
    columns: Sequence[str],
) -> tuple[dict[str, InputProcessing], dict[str, OutputProcessing]]:
    """Fill both processing fields of a manifest.

    What the recipe says comes first; then the framework's own labels and column names.

    Raises:
        ConversionError: what is described does not fit the tensor; names both.
    """
    works = dict(recipe.input_processing)
    if ONLY_INPUT in works:
        if len(inputs) != 1:
            raise ConversionError(
                f"the model has {len(inputs)} inputs; say in a recipe under input_processing "
                f"which of {', '.join(entry.name for entry in inputs)} is meant"
            )
        works[inputs[0].name] = works.pop(ONLY_INPUT)
    names = tuple(result.columns or columns)
    if not works and len(inputs) == 1 and names and inputs[0].shape[1:] == (len(names),):
        works[inputs[0].name] = FeaturesInput(names)
    works = {name: in_own_order(work, result.columns) for name, work in works.items()}
    if result.words:
        works[inputs[0].name] = _with_words(works.get(inputs[0].name), inputs[0], result)
    by_name = {entry.name: entry for entry in inputs}
    for name, work in works.items():
        if name not in by_name:
            raise ConversionError(
                f'input_processing: "{name}" is not an input ({", ".join(by_name)})'
            )
        check_input(work, by_name[name])
    return works, _describe_output(recipe, outputs[0], result.labels)


def in_own_order(work: InputProcessing, own: Sequence[str]) -> InputProcessing:
    """Columns in the framework's own order, where it has one: in it the model gets its table.

    Args:
        work: what a recipe says of an input.
        own: the columns that the model was fitted on; empty when it does not know.
    """
    if isinstance(work, FeaturesInput) and set(work.names) == set(own):
        return structs.replace(work, names=tuple(own))
    return work


def _with_words(
    work: InputProcessing | None, entry: TensorEntry, result: SourceResult
) -> FeaturesInput:
    """The table row, with the words that the framework's encoders know."""
    if not isinstance(work, FeaturesInput):
        raise ConversionError(
            f'input "{entry.name}" holds words, and its columns have no names; bring a .csv file '
            "with a header, or say --features"
        )
    if not set(result.words) <= set(range(len(work.names))):
        raise ConversionError(f'input "{entry.name}": words for columns that it does not have')
    words = {work.names[at]: column for at, column in result.words.items()}
    return structs.replace(work, words=words)


def check_input(work: InputProcessing, entry: TensorEntry) -> None:
    """Check that a picture, a row of columns or a text gives the tensor that the input takes.

    Raises:
        ConversionError: says both shapes.
    """
    if isinstance(work, TextInput):
        if entry.dtype != "uint8" or not entry.shape:
            raise ConversionError(f'input "{entry.name}" is {entry.spec()}, but a text is in bytes')
        return
    if isinstance(work, FeaturesInput):
        wanted: tuple[int, ...] = (len(work.names),)
    else:
        wanted = image_shape(work)
    axes = entry.shape[1:]
    fits = len(axes) == len(wanted) and all(
        axis == want or isinstance(axis, str) for axis, want in zip(axes, wanted, strict=True)
    )
    if not fits:
        what = f"{len(work.names)} columns" if isinstance(work, FeaturesInput) else "the picture"
        raise ConversionError(
            f'input "{entry.name}" is {entry.spec()}, but {what} would give '
            f"[batch,{','.join(map(str, wanted))}]"
        )


def image_shape(work: ImageInput) -> tuple[int, ...]:
    """The shape of one row that a picture becomes."""
    channels = 1 if work.mode == "L" else 3
    shapes = {
        "NCHW": (channels, work.height, work.width),
        "NHWC": (work.height, work.width, channels),
        "NHW": (work.height, work.width),
        "flat": (channels * work.height * work.width,),
    }
    if work.layout == "NHW" and channels != 1:
        raise ConversionError("image: layout NHW has no channel axis, so mode must be L")
    for name, values in (("mean", work.mean), ("std", work.std)):
        if len(values) not in (0, 1, channels):
            raise ConversionError(f"image: {name} needs one value, or one for each channel")
    return shapes[work.layout]


def _describe_output(
    recipe: Recipe, first: TensorEntry, own: Sequence[str]
) -> dict[str, OutputProcessing]:
    labels = recipe.labels
    if not labels and own and first.shape[-1:] == (len(own),):
        labels = tuple(own)
    if labels and first.shape[-1:] != (len(labels),):
        raise ConversionError(
            f'{len(labels)} labels do not fit the last axis of output "{first.name}" {first.spec()}'
        )
    if not labels and recipe.activation == "none":
        return {}
    return {first.name: OutputProcessing(activation=recipe.activation, labels=labels)}
