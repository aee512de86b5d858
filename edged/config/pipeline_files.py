"""The files that steps of pipelines read. Words only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edged.config.pipeline import PipelineConfig, StepConfig


def step_files(pipelines: Mapping[str, PipelineConfig]) -> list[str]:
    """Every one, as it was written; a change of one of them is a change of the configuration."""
    found = [file for one in pipelines.values() for step in one.steps for file in _files_of(step)]
    return list(dict.fromkeys(found))


def _files_of(step: StepConfig) -> Iterator[str]:
    if step.ctc is not None:
        yield step.ctc.characters
    if step.tokens is not None:
        yield step.tokens.file
    if step.labels is not None and step.labels.file is not None:
        yield step.labels.file
