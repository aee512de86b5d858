"""What is wrong with the rollouts of a configuration, before any bundle is looked at."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.problems import field_path
from edged.config.rollout import RolloutConfig
from edged.config.schema import Config, ModelConfig

_SECOND = 10**9
_MOST_SIDES = 8


def rollout_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for name, model in config.models.items():
        if model.rollout is not None:
            path = field_path(field_path("models", name), "rollout")
            yield from _beside(path, model)
            yield from _of_one(path, model.rollout)


def _beside(path: str, model: ModelConfig) -> Iterator[tuple[str, str]]:
    """What else is said of the model."""
    if model.serve != "newest":
        text = "and rollout.stable both say which release answers"
        yield path.removesuffix("rollout") + "serve", f"{text}; remove this one"
    if model.sequence is not None:
        yield path, "cannot be with sequence: a sequence stays with the release that keeps it"
    if model.generation is not None and model.rollout is not None and model.rollout.shadow:
        yield f"{path}.shadow", "cannot compare texts that are made; remove it"


def _of_one(path: str, rollout: RolloutConfig) -> Iterator[tuple[str, str]]:
    canary, shadow, ab = rollout.canary, rollout.shadow, rollout.ab
    if canary is None and shadow is None and ab is None:
        text = "tries nothing; expected canary, shadow or ab; for one release alone write"
        yield path, f"{text} `serve: {rollout.stable}` in its place"
    if canary is not None and ab is not None:
        yield f"{path}.ab", "and canary are two ways to share the same requests; remove one"
    for field, part in (("canary", canary), ("shadow", shadow)):
        if part is not None and part.release == rollout.stable:
            yield f"{path}.{field}.release", "is the stable release itself; expected another one"
    if ab is not None:
        if not 2 <= len(ab.weights) <= _MOST_SIDES:
            yield f"{path}.ab.weights", f"expected 2 to {_MOST_SIDES} releases"
        elif not sum(ab.weights.values()):
            yield f"{path}.ab.weights", "gives every release a share of 0"
    if not _SECOND // 10 <= rollout.guard.window <= 30 * 24 * 3600 * _SECOND:
        yield f"{path}.guard.window", "is outside what can work; expected 100ms to 720h"
