"""Text out of a recogniser's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edged.config.pipeline import CtcConfig
from edged.errors import FieldError
from edged.pipelines.lines import read_lines
from edged.pipelines.step import Values, Work
from edged.processing.texts import pack_texts
from edged.tensors import Array, TensorSpec


def ctc_work(config: CtcConfig, resolve: Path) -> Work:
    """Best path through the scores; repeats and blanks are left out.

    Args:
        config: the step's.
        resolve: the file of characters, absolute.

    Raises:
        FieldError: the file cannot be read.
    """
    characters = read_characters(resolve)
    if config.space:
        characters.append(" ")
    encoded = [b"", *(one.encode() for one in characters)]

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "float32" or len(spec.shape) != 3:
            raise FieldError("ctc.from", f"is {spec}; expected float32[n,steps,classes]")
        classes = spec.shape[-1]
        if classes != len(encoded):
            raise FieldError(
                "ctc.characters",
                f"{resolve.name} makes {len(encoded)} classes with blank"
                f"{' and space' if config.space else ''}; the scores {spec} have {classes}",
            )
        rows = spec.shape[0]
        return [
            TensorSpec("text", "uint8", (rows, "*characters")),
            TensorSpec("score", "float32", (rows,)),
        ]

    def run(values: Values) -> Values:
        found = [_best_path(row, encoded) for row in values["from"]]
        texts = pack_texts([text for text, _ in found])
        return {"text": texts, "score": np.array([score for _, score in found], np.float32)}

    return Work({"from": config.from_}, outputs, run, is_slow=True, texts=("text",))


def read_characters(path: Path) -> list[str]:
    """One character (or a few that belong together) a line.

    Raises:
        FieldError: the file cannot be read.
    """
    return read_lines(path, "ctc.characters")


def _best_path(scores: Array, encoded: Sequence[bytes]) -> tuple[bytes, float]:
    best = scores.argmax(axis=-1)
    kept = best != 0
    kept[1:] &= best[1:] != best[:-1]
    if not kept.any():
        return b"", 0.0
    text = b"".join(encoded[index] for index in best[kept])
    return text, float(scores.max(axis=-1)[kept].mean())
