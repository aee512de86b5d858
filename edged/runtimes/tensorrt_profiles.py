"""Which of an engine's optimisation profiles a run takes, and how rows that fit none are cut.

Pure. A profile is a range of shapes that the engine was tuned for; an engine may have one for any
number of rows and others for one number each, which are faster for just that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edged.runtimes.engine import Io

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One range of shapes.

    Args:
        number: as TensorRT counts.
        ends: for each input by name, the shortest and the longest shape.
    """

    number: int
    ends: Mapping[str, tuple[Shape, Shape]]

    def holds(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether all shapes lie in it."""
        return all(
            len(shape) == len(low)
            and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))
            for name, shape in shapes.items()
            for low, high in (self.ends[name],)
        )

    @property
    def width(self) -> int:
        """How much more than one shape it holds: fewer are better tuned."""
        return sum(
            b - a for low, high in self.ends.values() for a, b in zip(low, high, strict=True)
        )


class Part(NamedTuple):
    """A piece of a batch.

    Args:
        rows: that are taken off it.
        run_as: rows that the engine is given: more where it knows no so small number.
    """

    rows: int
    run_as: int


def profiles_of(io: Sequence[Io]) -> tuple[Profile, ...]:
    """All of an engine; one without free axes has one, of one shape."""
    inputs = [one for one in io if one.is_input]
    count = 1 + max((len(one.more) for one in inputs), default=0)
    return tuple(
        Profile(number, {one.name: _ends(one, number) for one in inputs}) for number in range(count)
    )


def _ends(one: Io, number: int) -> tuple[Shape, Shape]:
    if not one.range:
        return one.shape, one.shape
    chosen = one.range if number == 0 else one.more[number - 1]
    return chosen[0], chosen[-1]


def choose_profile(profiles: Sequence[Profile], shapes: Mapping[str, Shape]) -> Profile | None:
    """The narrowest that holds all shapes; None where none does."""
    return min((one for one in profiles if one.holds(shapes)), key=_width, default=None)


def _width(one: Profile) -> int:
    return one.width


def parts_of(rows: int, ends: Sequence[tuple[int, int]]) -> list[Part]:
    """How to run a batch of any number of rows.

    Args:
        rows: of it, at least one.
        ends: the fewest and the most rows of each profile.
    """
    most = max(high for _, high in ends)
    parts = []
    while rows:
        taken = min(rows, most)
        larger = [max(low, taken) for low, high in ends if high >= taken]
        parts.append(Part(taken, min(larger)))
        rows -= taken
    return parts
