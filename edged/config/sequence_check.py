"""What can be said of sequences from the configuration alone: limits, and who asks such a model.

What fits what is said with the bundles at hand (``edged.serving.sequences.states``).
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.problems import field_path, quote
from edged.config.schema import Config
from edged.config.sequence import SequenceConfig

_SECOND = 10**9
_MOST = 24 * 3600 * _SECOND


def sequence_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there."""
    for name, model in config.models.items():
        if model.sequence is None:  # as nearly always, and of hundreds
            continue
        path = field_path(field_path("models", name), "sequence")
        yield from _of_one(path, model.sequence)
        if model.cache is not None:
            text = (
                "keeps answers by their inputs alone, and those of this model depend on its state"
            )
            yield f"{field_path('models', name)}.cache", f"{text}; remove it"
        if model.sequence.on_swap == "drain" and model.memory.swap == "replace":
            text = "needs the old release beside the new one, and memory.swap is replace"
            yield f"{path}.on_swap", f"{text}; write keep, or memory: {{swap: overlap}}"
    budget = config.memory.budget
    kept = [model.sequence.max_state for model in config.models.values() if model.sequence]
    if budget is not None and sum(kept) >= budget:
        text = f"sequences may keep {sum(kept)} bytes (max_state of all models together), and that"
        yield "memory.budget", f"{text} leaves no room for the models themselves; raise it"
    yield from _askers(config)


def _of_one(path: str, section: SequenceConfig) -> Iterator[tuple[str, str]]:
    if not section.state:
        yield f"{path}.state", "names no state; expected {INPUT: OUTPUT}"
    for field in ("idle_timeout", "drain_timeout"):
        if not _SECOND // 10 <= getattr(section, field) <= _MOST:
            yield f"{path}.{field}", "is outside what can work; expected 100ms to 24h"


def _askers(config: Config) -> Iterator[tuple[str, str]]:
    """Pipelines: their requests belong to no sequence. Of bindings: ``keyed_check.py``."""
    stateful = {name for name, model in config.models.items() if model.sequence is not None}
    for name, pipeline in config.pipelines.items():
        path = field_path("pipelines", name)
        for index, step in enumerate(pipeline.steps):
            asked = (step.model or "").partition("@")[0]
            if asked in stateful:
                text = f"{quote(asked)} keeps state (sequence), and a pipeline's request has none"
                yield f"{path}.steps[{index}].model", f"{text}; ask another"
