"""From a step's configuration to the work it stands for: one line a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edged.config.pipeline import KINDS, StepConfig
from edged.errors import FieldError
from edged.pipelines.arrays import (
    compute_work,
    concat_work,
    first_work,
    gather_work,
    select_work,
)
from edged.pipelines.boxes import boxes_work
from edged.pipelines.ends import ends_work
from edged.pipelines.labels import Label, labels_work, read_labels
from edged.pipelines.packages import package_work
from edged.pipelines.photo import picture_work
from edged.pipelines.picture import crop_work, image_work
from edged.pipelines.regions import regions_work
from edged.pipelines.shapes import each_work, reshape_work, transpose_work, windows_work
from edged.pipelines.signal import signal_work
from edged.pipelines.sound import audio_work, mel_work, resample_work
from edged.pipelines.step import Work
from edged.pipelines.text import ctc_work
from edged.pipelines.tokens import tokens_work

Resolve = Callable[[str], Path]
"""A path from the configuration, absolute."""
LabelsOf = Callable[[str], "list[Label] | None"]
"""The labels of a model's output, or None where its bundle is not here."""


def make_work(step: StepConfig, resolve: Resolve, labels_of: LabelsOf) -> Work:
    """The work of a step that is no model.

    Args:
        step: what the operator wrote.
        resolve: paths in it.
        labels_of: what its model's bundle says.

    Raises:
        FieldError: at a path inside the step: what is wrong with it.
    """
    if step.compute is not None:
        return compute_work(step.compute)
    if step.select is not None:
        return select_work(step.select)
    if step.concat is not None:
        return concat_work(step.concat)
    if step.gather is not None:
        return gather_work(step.gather)
    if step.first:
        return first_work(step.first)
    if step.image is not None:
        return image_work(step.image)
    if step.crop is not None:
        return crop_work(step.crop)
    if step.boxes is not None:
        return boxes_work(step.boxes)
    if step.regions is not None:
        return regions_work(step.regions)
    if step.ctc is not None:
        return ctc_work(step.ctc, resolve(step.ctc.characters))
    if step.tokens is not None:
        return tokens_work(step.tokens, resolve(step.tokens.file))
    if step.labels is not None:
        file, of = step.labels.file, step.labels.of or step.labels.from_
        return labels_work(step.labels, read_labels(resolve(file)) if file else labels_of(of))
    if step.ends is not None:
        return ends_work(step.ends)
    if step.signal is not None:
        return signal_work(step.signal)
    if step.picture is not None:
        return picture_work(step.picture)
    if step.audio is not None:
        return audio_work(step.audio)
    if step.resample is not None:
        return resample_work(step.resample)
    if step.mel is not None:
        return mel_work(step.mel)
    if step.windows is not None:
        return windows_work(step.windows)
    if step.transpose is not None:
        return transpose_work(step.transpose)
    if step.reshape is not None:
        return reshape_work(step.reshape)
    if step.each is not None:
        return each_work(step.each)
    assert step.use is not None
    return package_work(step.use, step.options, named_inputs(step))


def named_inputs(step: StepConfig, only: str = "input") -> Mapping[str, str]:
    """``inputs`` by name; the short form fills the only input."""
    return {only: step.inputs} if isinstance(step.inputs, str) else step.inputs


def check_kind(step: StepConfig) -> None:
    """Hold a step to one kind, and to the fields that go with it.

    Raises:
        FieldError: at a path inside the step.
    """
    kinds = step.kinds
    if len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        raise FieldError("", f"needs exactly one of {', '.join(KINDS)}; found: {found}")
    if step.inputs and kinds[0] not in ("model", "use"):
        raise FieldError("inputs", f"belong to model and use; {kinds[0]} says itself what it reads")
    if step.options and step.use is None:
        raise FieldError("options", "belong to use: they are passed to an installed package")
    if step.default is not None and step.when is None and not step.first:
        raise FieldError("default", "is for steps that may be skipped; add when: or remove it")
