"""The same steps in numpy and float64: what the baked nodes are held against.

Shares no code with ``nodes``: a resize is two dense matrices of weights, written from the
definition, so that a wrong attribute or axis in the graph cannot be wrong here too.
"""

from __future__ import annotations

import numpy as np

from converters.baked.words import Bake
from edged.tensors import Array

CHUNK_ROWS = 16
"""Float64 is eight times as large as the raw pictures."""


def preprocess(work: Bake, raw: Array) -> Array:
    """Do the steps.

    Args:
        work: checked against the raw pictures (``words.check_words``).
        raw: [rows, …] in ``work.layout``.

    Returns:
        float32[rows, …] in ``work.model_layout``.
    """
    if len(raw) > CHUNK_ROWS:
        parts = range(0, len(raw), CHUNK_ROWS)
        return np.concatenate([preprocess(work, raw[i : i + CHUNK_ROWS]) for i in parts])
    pictures = raw if work.layout == "NHWC" else raw.transpose(0, 2, 3, 1)
    values = pictures.astype(np.float64)
    if work.resize is not None:
        smooth = work.resize.antialias
        down = resize_weights(values.shape[1], work.resize.height, antialias=smooth)
        across = resize_weights(values.shape[2], work.resize.width, antialias=smooth)
        values = np.einsum("ih,nhwc->niwc", down, values, optimize=True)
        values = np.einsum("jw,niwc->nijc", across, values, optimize=True)
    mean = np.asarray(work.mean or 0.0, np.float64)
    std = np.asarray(work.std or 1.0, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        ready = ((values * work.factor - mean) / std).astype(np.float32)
    return np.ascontiguousarray(
        ready if work.model_layout == "NHWC" else ready.transpose(0, 3, 1, 2)
    )


def resize_weights(size: int, wanted: int, *, antialias: bool) -> Array:
    """How much of each pixel goes into each new one, along one axis: float64[wanted, size].

    A triangle around the new pixel's centre, two pixels wide; with ``antialias`` as wide as the
    new pixel's two neighbours where that is more. Beyond the edge: without ``antialias`` the edge's
    pixel is repeated, with it the weights inside are all there is.
    """
    ratio = size / wanted
    centres = (np.arange(wanted) + 0.5) * ratio
    if not antialias:
        centres = np.clip(centres, 0.5, size - 0.5)
    width = max(ratio, 1.0) if antialias else 1.0
    gaps = np.abs(np.arange(size) + 0.5 - centres[:, np.newaxis]) / width
    weights = np.maximum(0.0, 1.0 - gaps)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
