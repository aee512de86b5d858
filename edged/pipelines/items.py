"""A step of a pipeline that is done for each item of a fan-out: crop, then recognise each.

Each item asks the model by itself, so that its queue puts items together, also with those of other
requests. A step that is no model does all items in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from edged.errors import EdgedError
from edged.pipelines.checks import check_promise
from edged.pipelines.graph import Node
from edged.tensors import Array, TensorSpec

_AT_ONCE = 32
"""Items of one request that are with a model at a time: a full batch, and no flood."""

Then = Callable[[int, Node, int, Mapping[str, Array], "EdgedError | None"], None]
"""Told what a model answered: node, item, outputs or an error."""
Do = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Run(Protocol):
    """The request, as its items see it."""

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is to be begun."""
        ...

    def ask(
        self, place: int, node: Node, given: Mapping[str, Array], then: Then, index: int = -1
    ) -> None:
        """Ask a model."""
        ...

    def work(self, place: int, node: Node, given: Mapping[str, Any], do: Do | None = None) -> None:
        """Do a step that is no model."""
        ...

    def fail(self, place: int, error: EdgedError) -> None:
        """End because of a step."""
        ...

    def settle(self, place: int, node: Node, result: Mapping[str, Any]) -> None:
        """Keep what a step made."""
        ...

    def judge(
        self,
        place: int,
        node: Node,
        items: Sequence[int | None],
        then: Callable[[Sequence[bool]], None],
    ) -> None:
        """Find out for which items the condition holds."""
        ...

    def filled(self, spec: TensorSpec, value: float) -> Array:
        """What stands for an output that was not made."""
        ...


class Items:
    """A step that is done for each item of a fan-out.

    Args:
        run: the request.
        place: of the node.
        node: the step.
        given: its arguments; those in ``node.each`` are lists.
    """

    def __init__(self, run: Run, place: int, node: Node, given: Mapping[str, Any]) -> None:
        self._run, self._place, self._node, self._given = run, place, node, given
        self._count = len(given[min(node.each)])
        self._made: list[Mapping[str, Array] | None] = [None] * self._count
        self._wanted: Sequence[bool] = ()
        self._next = self._open = 0
        self._is_done = self._is_asking = False

    def begin(self) -> None:
        """Begin all of them, or as many as may be with a model at once."""
        if self._node.when is None:
            self._begin([True] * self._count)
        else:
            self._run.judge(self._place, self._node, range(self._count), self._begin)

    def _begin(self, wanted: Sequence[bool]) -> None:
        self._wanted = wanted
        if self._node.member is not None:
            self._more()
        else:
            self._work()

    def _item(self, index: int) -> dict[str, Any] | None:
        """The arguments of one item; None when it is skipped."""
        node = self._node
        given = {n: v[index] if n in node.each else v for n, v in self._given.items()}
        if node.work is not None and node.work.mode == "first":
            given = {name: value for name, value in given.items() if value is not None}
            return given or None
        is_whole = all(value is not None for value in given.values())
        return given if is_whole and self._wanted[index] else None

    def _instead(self) -> Mapping[str, Array] | None:
        node = self._node
        if node.default is None:
            return None
        return {spec.name: self._run.filled(spec, node.default) for spec in node.promised}

    def _more(self) -> None:
        if self._is_asking:
            return  # an answer that came at once; the loop below goes on
        self._is_asking = True
        self._ask_more()
        self._is_asking = False
        if self._next == self._count and not self._open and not self._run.is_stopped:
            self._finish()

    def _ask_more(self) -> None:
        run = self._run
        while self._next < self._count and self._open < _AT_ONCE and not run.is_stopped:
            index = self._next
            self._next += 1
            given = self._item(index)
            if given is None:
                self._made[index] = self._instead()
                continue
            self._open += 1
            try:
                run.ask(self._place, self._node, given, self._asked, index)
            except EdgedError as exc:
                self._open -= 1
                run.fail(self._place, exc)

    def _asked(
        self, place: int, _node: Node, index: int, outputs: Mapping[str, Array], error: Any
    ) -> None:
        self._open -= 1
        if error is not None:
            self._run.fail(place, error)
        else:
            self._made[index] = outputs
            self._more()

    def _finish(self) -> None:
        if self._is_done:
            return
        self._is_done = True
        self._run.settle(self._place, self._node, self._lists(self._made))

    def _lists(self, made: Sequence[Mapping[str, Array] | None]) -> dict[str, list[Array | None]]:
        return {
            name: [one[name] if one is not None else None for one in made]
            for name, _ in self._node.writes
        }

    def _work(self) -> None:
        node = self._node
        work = node.work
        assert work is not None
        items = [self._item(index) for index in range(self._count)]
        instead = self._instead()

        def all_of_them(_given: Mapping[str, Any]) -> dict[str, list[Array | None]]:
            present = [given for given in items if given is not None]
            if work.run_items is not None:
                results = iter(work.run_items(present))
            else:
                results = iter([work.run(given) for given in present])
            made = [instead if given is None else next(results) for given in items]
            if work.is_foreign:
                for one in made:
                    if one is not None:
                        check_promise(node.promised, one)
            return self._lists(made)

        self._run.work(self._place, node, self._given, all_of_them)
