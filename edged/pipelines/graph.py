"""A pipeline as a graph that can run: its nodes in order, and where their values are kept.

Words only; ``plan.py`` makes it and ``run.py`` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edged.config.pipeline import PipelineConfig
from edged.manifest import Manifest
from edged.pipelines.grammar import Tree
from edged.pipelines.step import Work
from edged.tensors import TensorSpec


class Member(NamedTuple):
    """A model as a step names it: its name, and a release or an alias."""

    model: str
    selector: int | str | None


@dataclass(frozen=True, slots=True)
class Node:
    """One step, ready to be done.

    Args:
        name: of the step.
        member: the model to ask, or None.
        work: what else to do, or None for a model.
        reads: argument and slot.
        writes: output and slot.
        promised: the outputs' types, of one item.
        each: arguments that hold one value for each item; empty when the step is done once.
        when: the condition, or None.
        when_reads: what it uses, as written, and the slot.
        default: what the outputs are filled with where it is skipped.
        after: nodes that must be done before.
    """

    name: str
    member: Member | None
    work: Work | None
    reads: tuple[tuple[str, int], ...]
    writes: tuple[tuple[str, int], ...]
    promised: tuple[TensorSpec, ...]
    each: frozenset[str] = frozenset()
    when: Tree | None = None
    when_reads: tuple[tuple[str, int], ...] = ()
    default: float | None = None
    after: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole pipeline.

    Args:
        name: of the pipeline.
        config: what it was made of.
        nodes: in an order in which they can be done.
        inputs: the signature; input i is slot i.
        outputs: the signature.
        results: the slot of each output.
        slots: how many values there are in all.
        members: the models, each once.
        manifests: of the models, likewise.
        followers: for each node those that use what it makes.
        fresh: slots whose arrays are no views of what was sent.
    """

    name: str
    config: PipelineConfig
    nodes: tuple[Node, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    results: tuple[int, ...]
    slots: int
    members: tuple[Member, ...]
    manifests: tuple[Manifest, ...]
    followers: tuple[tuple[int, ...], ...] = ()
    fresh: frozenset[int] = frozenset()


def split_member(reference: str) -> Member:
    """``NAME``, ``NAME@RELEASE`` or ``NAME@ALIAS``."""
    name, _, selector = reference.partition("@")
    return Member(name, int(selector) if selector.isdecimal() else selector or None)
