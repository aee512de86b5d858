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
        streamed: how it answers for each item, where it does.
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
    streamed: Streamed | None = None


@dataclass(frozen=True, slots=True)
class Streamed:
    """A pipeline cut in two: what is done once, and what is done for one item after the other.

    Args:
        names: the outputs that are given for each item.
        outer: what is done once; one node stands for all that ``inner`` does.
        place: of that node.
        inner: what is done for one item by itself; its outputs are what is given.
        count: a slot with a list of one entry an item.
        items: slots of what was made for each item before.
        kept: slots that ``inner`` fills and ``outer`` reads, as lists.
    """

    names: tuple[str, ...]
    outer: Plan
    place: int
    inner: Plan
    count: int
    items: tuple[int, ...]
    kept: tuple[int, ...]


def followers_of(nodes: tuple[Node, ...]) -> tuple[tuple[int, ...], ...]:
    """For each node those that use what it makes."""
    return tuple(
        tuple(place for place, node in enumerate(nodes) if maker in node.after)
        for maker in range(len(nodes))
    )


def split_member(reference: str) -> Member:
    """``NAME``, ``NAME@RELEASE`` or ``NAME@ALIAS``."""
    name, _, selector = reference.partition("@")
    return Member(name, int(selector) if selector.isdecimal() else selector or None)
