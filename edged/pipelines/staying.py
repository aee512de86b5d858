"""Which tensors of a pipeline stay on their device between two models.

Decides from the plan and from where the models' sessions are: one stays when nobody but models of
that very device reads it. Pure; asked again whenever a release has moved, so that requests find no
more than a table, which is empty where no model runs on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edged.pipelines.graph import Member, Node, Plan

Staying = Mapping[int, frozenset[str]]
"""By a node's place, the outputs of its model that need not come to the host."""


def staying(plan: Plan, place_of: Callable[[Member], str]) -> Staying:
    """Find them.

    Args:
        plan: of the pipeline.
        place_of: the device of a model whose tensors may stay there; empty for any other.
    """
    if plan.streamed is not None:
        return {}  # its inner plan runs by itself, and reads what the outer one keeps
    places = [_place(node, place_of) for node in plan.nodes]
    if not any(places):
        return {}
    looked_at = {slot for node in plan.nodes for _, slot in node.when_reads} | {*plan.results}
    found: dict[int, frozenset[str]] = {}
    for place, node in enumerate(plan.nodes):
        names = frozenset(
            name
            for name, slot in node.writes
            if places[place] and slot not in looked_at and _readers(plan, slot, places, place)
        )
        if names:
            found[place] = names
    return found


def _place(node: Node, place_of: Callable[[Member], str]) -> str:
    """Where a step's model takes tensors; empty for steps of another kind and for fan-outs."""
    return place_of(node.member) if node.member is not None and not node.each else ""


def _readers(plan: Plan, slot: int, places: list[str], maker: int) -> bool:
    """Whether somebody reads a value, and all who do are on the maker's device."""
    wanted = {
        places[place]
        for place, node in enumerate(plan.nodes)
        if any(read == slot for _, read in node.reads)
    }
    return wanted == {places[maker]}
