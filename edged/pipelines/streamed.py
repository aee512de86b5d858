"""Which part of a pipeline is done for one item after the other, so that each is answered at once.

Pure. A step that wants all items together (pictures padded in groups) is done for all of them, and
so is what comes before it; from the last such step on each item goes its own way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from edged.config.problems import did_you_mean
from edged.errors import FieldError
from edged.pipelines.graph import Node, Plan, Streamed, followers_of
from edged.tensors import TensorSpec


def plan_stream(plan: Plan) -> Streamed:
    """Cut a pipeline in two.

    Args:
        plan: of the whole.

    Raises:
        FieldError: at a path inside the pipeline: an output that is not made for each item.
    """
    return _Cutter(plan).cut()


def check_names(names: tuple[str, ...], outputs: Collection[str]) -> None:
    """Hold what is to be answered for each item against the outputs there are.

    Raises:
        FieldError: at a path inside the pipeline.
    """
    for index, name in enumerate(names):
        if name not in outputs:
            text = f'"{name}" is no output{did_you_mean(name, list(outputs))}'
            raise FieldError(f"stream[{index}]", f"{text}; there are {', '.join(outputs)}")
        if name in names[:index]:
            raise FieldError(f"stream[{index}]", f'"{name}" is there twice')


class _Cutter:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._makers = {
            slot: place for place, node in enumerate(plan.nodes) for _, slot in node.writes
        }
        self._roots = self._item_roots()
        self._before: list[set[int]] = []
        for node in plan.nodes:
            self._before.append(set(node.after).union(*(self._before[p] for p in node.after)))

    def cut(self) -> Streamed:
        plan = self._plan
        names = plan.config.stream
        results = dict(zip((spec.name for spec in plan.outputs), plan.results, strict=True))
        sources = [self._source(index, name, results[name]) for index, name in enumerate(names)]
        root = self._roots[sources[0]]
        rest = [place for place, spec in enumerate(plan.outputs) if spec.name not in names]
        needed = self._with_before(
            self._makers[slot]
            for slot in (*sources, *(plan.results[place] for place in rest))
            if slot in self._makers
        )
        inside = self._alone(sources, root, needed)
        outer, place, kept, outside_slots = self._outer(needed, inside, sources, root)
        order = sorted(inside)
        at = {old: new for new, old in enumerate(order)}
        nodes = tuple(
            replace(
                plan.nodes[old],
                each=frozenset(),
                after=tuple(at[p] for p in plan.nodes[old].after if p in at),
            )
            for old in order
        )
        inner = replace(
            plan,
            nodes=nodes,
            outputs=tuple(self._spec(n, slot) for n, slot in zip(names, sources, strict=True)),
            results=tuple(sources),
            followers=followers_of(nodes),
        )
        whole = replace(
            plan,
            nodes=outer,
            outputs=tuple(plan.outputs[one] for one in rest),
            results=tuple(plan.results[one] for one in rest),
            followers=followers_of(outer),
        )
        items = tuple(slot for slot in outside_slots if slot in self._roots)
        count = plan.nodes[root].writes[0][1]
        return Streamed(names, whole, place, inner, count, items, kept)

    def _item_roots(self) -> dict[int, int]:
        """For each slot that holds a list: the node whose items it is made for."""
        roots: dict[int, int] = {}
        for place, node in enumerate(self._plan.nodes):
            if node.work is not None and node.work.mode == "spread":
                roots.update((slot, place) for _, slot in node.writes)
            elif node.each:
                root = next(roots[slot] for name, slot in node.reads if name in node.each)
                roots.update((slot, root) for _, slot in node.writes)
        return roots

    def _source(self, index: int, name: str, slot: int) -> int:
        """The slot whose list an output is gathered from."""
        path = f"stream[{index}]"
        node = self._plan.nodes[self._makers[slot]] if slot in self._makers else None
        if node is None or node.work is None or node.work.mode != "gather":
            text = f'output "{name}" is made whole; only what a gather step makes is answered'
            raise FieldError(path, f"{text} for each item")
        if node.when is not None:
            raise FieldError(
                path, f'step "{node.name}" has when; it cannot be put before the items'
            )
        source = node.reads[0][1]
        first = self._plan.config.stream[0]
        if index and self._roots[source] != self._root_of_output(first):
            text = f'output "{name}" has other items than "{first}"; answers hold those of one step'
            raise FieldError(path, text)
        return source

    def _root_of_output(self, name: str) -> int:
        names = [spec.name for spec in self._plan.outputs]
        gather = self._plan.nodes[self._makers[self._plan.results[names.index(name)]]]
        return self._roots[gather.reads[0][1]]

    def _spec(self, name: str, slot: int) -> TensorSpec:
        node = self._plan.nodes[self._makers[slot]]
        place = [written for _, written in node.writes].index(slot)
        spec = node.promised[place]
        return TensorSpec(name, spec.dtype, spec.shape)

    def _with_before(self, places: Iterable[int]) -> set[int]:
        found = set(places)
        return found.union(*(self._before[place] for place in found))

    def _alone(self, sources: list[int], root: int, needed: set[int]) -> set[int]:
        """The nodes that each item goes through by itself on its way to what is answered."""
        nodes = self._plan.nodes
        inside = {
            place
            for place in self._with_before(self._makers[slot] for slot in sources)
            if nodes[place].each
            and self._roots[nodes[place].writes[0][1]] == root
            and not _wants_all(nodes[place])
        }
        while True:
            between = {
                place
                for place in needed - inside
                if any(place in self._before[one] for one in inside)
            }
            late = {one for one in inside if any(one in self._before[place] for place in between)}
            if not late:
                return inside
            inside -= late

    def _outer(
        self, needed: set[int], inside: set[int], sources: list[int], root: int
    ) -> tuple[tuple[Node, ...], int, tuple[int, ...], tuple[int, ...]]:
        """What is done once, the place that stands for ``inside``, and what goes in and out."""
        plan = self._plan
        order = sorted(needed - inside)
        stand_in = len(order)
        at = {old: new for new, old in enumerate(order)} | dict.fromkeys(inside, stand_in)
        made = {slot for place in inside for _, slot in plan.nodes[place].writes}
        read = [slot for place in sorted(inside) for slot in _slots_read(plan.nodes[place])]
        coming = tuple(dict.fromkeys(slot for slot in (*read, *sources) if slot not in made))
        makers = {self._makers[slot] for slot in coming if slot in self._makers} | {root}
        kept = tuple(
            sorted({slot for old in order for slot in _slots_read(plan.nodes[old])} & made)
        )
        nodes = [
            replace(plan.nodes[old], after=tuple(sorted({at[p] for p in plan.nodes[old].after})))
            for old in order
        ]
        name = plan.nodes[min(inside)].name if inside else plan.nodes[root].name
        after = tuple(sorted(at[maker] for maker in makers))
        nodes.append(Node(name, None, None, (), (), (), after=after))
        return tuple(nodes), stand_in, kept, coming


def _wants_all(node: Node) -> bool:
    """Whether a step's items depend on one another."""
    return node.work is not None and node.work.run_items is not None


def _slots_read(node: Node) -> list[int]:
    return [slot for _, slot in (*node.reads, *node.when_reads)]
