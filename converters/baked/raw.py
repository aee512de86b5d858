"""Raw samples beside what the framework gets of them, so that its answers belong to both.

Edge cases are made of raw rows and asked of the framework as further samples: those that its
process makes by itself would be edges of what is ready, which no client sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from converters.baked.reference import preprocess
from converters.baked.words import Bake, check_words
from converters.edges import MISSING, Edge, make_edges
from converters.errors import ConversionError
from converters.samples import MAX_BYTES, spread
from converters.sandbox import Converted
from converters.sources.base import fit_dtype
from edged.tensors import Array

ONLY_INPUT = "*"
"""In ``bake``: the one input of a model that has one, whatever it is called."""


@dataclass(frozen=True)
class Raw:
    """Samples as clients will send them.

    Args:
        works: the steps, by the samples' name.
        samples: raw rows by the samples' name; inputs that nothing is baked for as they are.
        edges: raw edge cases, a row each.
        fed: what the framework gets: ``samples``, then the edges, pre-processed.
    """

    works: dict[str, Bake]
    samples: dict[str, Array]
    edges: dict[str, dict[str, Array]]
    fed: dict[str, Array]

    def by_input(self, names: tuple[str, ...]) -> dict[str, str]:
        """The samples' name of each of the framework's inputs (an only one may differ)."""
        if len(names) == 1:
            return {names[0]: next(iter(self.samples))}
        return {name: name for name in names}

    def told(self) -> str:
        """What the framework gets, for messages."""
        rows = (
            f'"{name}" as {self.fed[name].dtype} {list(self.fed[name].shape[1:])} a row'
            for name in self.works
        )
        return f"bake gives {', '.join(rows)}"


def prepare(
    bake: Mapping[str, Bake], samples: Mapping[str, Array], *, batch: str, edges: bool
) -> Raw:
    """Pre-process the samples in numpy, as the user's own program would.

    Args:
        bake: the steps by input name, or under ``*`` for the only input.
        samples: raw rows.
        batch: as in the recipe.
        edges: whether to ask for edge cases too.

    Raises:
        ConversionError: the steps do not fit the samples; names the input.
    """
    if batch != "rows":
        raise ConversionError("bake: pictures come in rows, so it does not go with batch none")
    if not samples:
        raise ConversionError("bake: no samples were given; bring raw pictures, a row each")
    works = _name_works(bake, samples)
    own: dict[str, Array] = {}
    for name, array in samples.items():
        work = works.get(name)
        own[name] = array
        if work is not None:
            check_words(name, work, array.shape)
            own[name] = np.ascontiguousarray(fit_dtype(array, work.dtype, name))
    own = _few(works, own)
    made = make_edges(own) if edges else {}
    # A framework that refuses NaN would refuse the samples with it.
    made = {name: rows for name, rows in made.items() if name != MISSING}
    fed = {}
    for name, array in own.items():
        together = np.concatenate([array, *(rows[name] for rows in made.values())])
        fed[name] = preprocess(works[name], together) if name in works else together
        if fed[name].dtype.kind == "f" and name in works and not np.isfinite(fed[name]).all():
            raise ConversionError(f'bake "{name}": scale, mean and std give values beyond float32')
    return Raw(works, own, made, fed)


def _few(works: Mapping[str, Bake], samples: dict[str, Array]) -> dict[str, Array]:
    """Fewer rows, evenly spread, where ready ones would be over the cap on samples.

    A float32 pixel takes four times as much as a byte.
    """
    row_bytes = sum(array[0].nbytes for name, array in samples.items() if name not in works)
    for name, work in works.items():
        pixels = samples[name][0].size
        if work.resize is not None:
            channels = samples[name].shape[work.channel_axis]
            pixels = work.resize.height * work.resize.width * channels
        row_bytes += pixels * np.dtype(np.float32).itemsize
    rows = spread(len(next(iter(samples.values()))), max(8, MAX_BYTES // max(1, row_bytes)))
    return {name: np.ascontiguousarray(array[rows]) for name, array in samples.items()}


def _name_works(bake: Mapping[str, Bake], samples: Mapping[str, Array]) -> dict[str, Bake]:
    if len(samples) == 1 and len(bake) == 1:
        (word, work), (only,) = next(iter(bake.items())), samples
        if word in (ONLY_INPUT, only) or only == ONLY_INPUT:
            return {only: work}
    unknown = [name for name in bake if name not in samples]
    if unknown:
        listed = ", ".join(f'"{name}"' for name in samples)
        raise ConversionError(f'bake: "{unknown[0]}" is none of the samples\' inputs ({listed})')
    return dict(bake)


def take_edges(converted: Converted, raw: Raw) -> Converted:
    """Take the edge cases off the end of the samples again, with the framework's answers.

    An answer that is not finite is none.
    """
    rows = len(next(iter(raw.samples.values())))
    edges: dict[str, Edge] = {}
    for index, name in enumerate(raw.edges, rows):
        inputs = {key: array[index : index + 1] for key, array in converted.inputs.items()}
        outputs = {key: array[index : index + 1] for key, array in converted.outputs.items()}
        if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
            edges[name] = (inputs, outputs)
    return replace(
        converted,
        inputs={name: array[:rows] for name, array in converted.inputs.items()},
        outputs={name: array[:rows] for name, array in converted.outputs.items()},
        edges=edges,
    )
