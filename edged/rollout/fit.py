"""Whether the releases of a rollout are there, and whether one may answer in another's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edged.config.rollout import RolloutConfig
from edged.manifest import Manifest


def unfit(rollout: RolloutConfig, manifests: Mapping[int, Manifest]) -> Iterator[tuple[str, str]]:
    """Fields of the section, and what is wrong with the bundles that they name.

    Args:
        rollout: the section.
        manifests: of the releases that the model's bundles hold.
    """
    have = ", ".join(map(str, sorted(manifests))) or "none"
    stable = manifests.get(rollout.stable)
    for field, number in _named(rollout):
        found = manifests.get(number)
        if found is None:
            yield field, f"release {number} is in none of the bundles; they hold: {have}"
        elif stable is not None and (found.inputs, found.outputs) != (
            stable.inputs,
            stable.outputs,
        ):
            text = f"release {number} takes or gives other tensors than release {rollout.stable}: "
            yield field, f"{text}whoever is given one must be able to ask the other"
        elif stable is not None and found.input_processing != stable.input_processing:
            # A message is made into rows before it is known whose request it will be.
            text = f"release {number} makes its inputs in another way than release "
            text += f"{rollout.stable} (input_processing of the bundles: scale, layout, words): "
            yield field, f"{text}the rows of one mean something else to the other"
    guard = rollout.guard
    canary = manifests.get(rollout.canary.release) if rollout.canary is not None else None
    if canary is None or canary.golden is not None or canary.statistics:
        return
    for field, limit in (("drift", guard.drift), ("psi", guard.psi)):
        if limit is not None:
            text = "has neither statistics nor golden samples to hold it against"
            yield f"guard.{field}", f"release {canary.release} {text}"


def _named(rollout: RolloutConfig) -> Iterator[tuple[str, int]]:
    yield "stable", rollout.stable
    if rollout.canary is not None:
        yield "canary.release", rollout.canary.release
    if rollout.shadow is not None:
        yield "shadow.release", rollout.shadow.release
    if rollout.ab is not None:
        for number in rollout.ab.weights:
            yield f"ab.weights.{number}", int(number)
