"""What a recipe calibrates on: a file of arrays, a folder of pictures, or recorded messages.

Decides by looking at the path; what each holds is told by its own file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.describe import describe_processing
from converters.gate.prove import Proven
from converters.precision.calibration import Rows, open_calibration
from converters.precision.capture import ENDINGS, open_capture
from converters.precision.pictures import open_pictures
from converters.recipe import Recipe
from converters.sandbox import Converted
from edged.manifest import Manifest
from edged.specs import FeaturesInput


def open_rows(recipe: Recipe, converted: Converted, proven: Proven, columns: Sequence[str]) -> Rows:
    """Open what the recipe calibrates on.

    Args:
        recipe: names it.
        converted: has the source's own names of inputs and columns.
        proven: has the model's inputs.
        columns: names of the samples' columns.

    Raises:
        ConversionError: it does not fit the model; says what was expected.
    """
    path = Path(recipe.calibration)
    manifest = _draft(recipe, converted, proven, columns)
    works = manifest.input_processing
    if path.is_dir():
        return open_pictures(path, proven.inputs, works)
    if path.suffix.lower() in ENDINGS:
        return open_capture(path, manifest, recipe.capture)
    work = works.get(proven.inputs[0].name)
    return open_calibration(
        path,
        converted.result.input_names,
        proven.inputs,
        # By name, in the order in which the model takes them, whatever order the file has.
        features=work.names if isinstance(work, FeaturesInput) else (),
        truth=recipe.truth,
    )


def _draft(
    recipe: Recipe, converted: Converted, proven: Proven, columns: Sequence[str]
) -> Manifest:
    """What the bundle will say of its inputs, so that the daemon's decoders can be built."""
    works, _ = describe_processing(recipe, proven.inputs, proven.outputs, converted.result, columns)
    return Manifest(
        format="edged-bundle-v1",
        name=recipe.name,
        release=recipe.release,
        version=recipe.human_version,
        inputs=proven.inputs,
        outputs=proven.outputs,
        artefacts=(),
        members=(),
        input_processing=works,
    )
