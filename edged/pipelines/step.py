"""What a step of a pipeline is: shapes foretold, and a pure function on arrays.

``Step`` is what a package gives through an entry point of the group ``edged.steps``; the kinds that
are built in do the same and are made from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edged.tensors import Array, TensorSpec


class Step(Protocol):
    """Work that an installed package does in a pipeline. It keeps no state between two runs."""

    def outputs(self, inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        """Say what comes out, before anything runs.

        Args:
            inputs: the type of each input; axes whose length is not known have a name.

        Returns:
            Names, dtypes and shapes; a name that is no axis of an input is the step's own.

        Raises:
            ValueError: an input is missing or does not fit; says what was expected.
        """
        ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Do it, on any thread, several at a time.

        Args:
            inputs: of the types that were promised; not to be changed.

        Returns:
            As ``outputs`` said.

        Raises:
            ValueError: these values cannot be worked on; the caller is told.
        """
        ...


Mode = Literal["map", "spread", "gather", "first"]
"""``map``: one result for each item; ``spread``: makes items; ``gather``: takes all items at once;
``first``: takes whatever is there."""


@dataclass(frozen=True, slots=True)
class Work:
    """A step as the plan holds it.

    Args:
        reads: by argument, which value, as written.
        outputs: as ``Step.outputs``, but raises FieldError with a path inside the step.
        run: as ``Step.run``; of ``spread`` the outputs are lists, of ``gather`` the inputs.
        mode: how it treats items.
        is_slow: it must not run on the event loop.
        texts: outputs that are strings; see ``processing/texts.py``.
        takes_texts: arguments that are strings.
        run_items: does all items at once, where they depend on each other.
        main: of several outputs the one that the step's name alone stands for; empty: none.
        is_foreign: what it makes is held against what it promised.
        count: of ``spread``, how many items it will make; asked before it makes them.
    """

    reads: Mapping[str, str]
    outputs: Callable[[Mapping[str, TensorSpec]], Sequence[TensorSpec]]
    run: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    mode: Mode = "map"
    is_slow: bool = False
    is_foreign: bool = False
    main: str = ""
    texts: tuple[str, ...] = ()
    takes_texts: tuple[str, ...] = ()
    run_items: Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]] | None = None
    count: Callable[[Mapping[str, Any]], int] | None = None


Values = Mapping[str, Array]
