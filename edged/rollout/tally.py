"""What the releases of a rollout have done since it began: plain figures that outlive a restart.

Decides what counts as a release's own failure. Written on the event loop only.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from edged.errors import Code, EdgedError

_PER_OCTAVE = 8
_CELLS = 40 * _PER_OCTAVE
"""Up to 2**40 ns, some 18 minutes; more counts as that."""
_LONGEST = 38
"""Times whose length in bits, less four, is that much or more fall into the last octave."""
_NOT_ITS_OWN = frozenset(
    {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.CANCELLED}
)
"""The asker's own doing; any release would have answered so."""

Count = Annotated[int, Meta(ge=0, le=2**62)]


def cell_of(duration_ns: int) -> int:
    """The cell of a time: eight to each doubling."""
    if duration_ns < _PER_OCTAVE:
        return max(0, duration_ns)
    shift = duration_ns.bit_length() - 4
    return min(_CELLS - 1, (shift << 3) + (duration_ns >> shift))


def longest_ns(cell: int) -> int:
    """The end of a cell."""
    if cell < _PER_OCTAVE:
        return cell
    shift = (cell >> 3) - 1
    return (((cell & 7) + 9) << shift) - 1


class Side(Struct):
    """One release's answers."""

    answers: Count = 0
    errors: Count = 0
    times: Annotated[list[Count], Meta(min_length=_CELLS, max_length=_CELLS)] = field(
        default_factory=lambda: [0] * _CELLS
    )
    """Answers that were no error, by the cell of their time."""

    def note(self, error: EdgedError | None, duration_ns: int) -> None:
        """An answer was given so long after the request."""
        if error is not None:
            if error.code not in _NOT_ITS_OWN:
                self.answers += 1
                self.errors += 1
            return
        self.took(duration_ns)

    def took(self, duration_ns: int) -> None:
        """The same for one that was no error."""
        self.answers += 1
        # As ``cell_of``, which is a third of what this would take.
        shift = duration_ns.bit_length() - 4
        if 0 < shift < _LONGEST:
            self.times[(shift << 3) + (duration_ns >> shift)] += 1
        else:
            self.times[cell_of(duration_ns)] += 1

    @property
    def error_rate(self) -> float:
        """Errors among the answers, 0 to 1."""
        return self.errors / self.answers if self.answers else 0.0

    @property
    def timed(self) -> int:
        """Answers that were no error."""
        return sum(self.times)

    def slower_than(self, duration_ns: int) -> int:
        """Answers that took longer, as far as the cells tell."""
        last = cell_of(duration_ns)
        return sum(self.times[last + 1 :])

    def percentile_ns(self, part: float) -> int:
        """The time that this part of the answers did not exceed."""
        left, last = part * self.timed, 0
        for cell, count in enumerate(self.times):
            if count:
                left, last = left - count, cell
                if left <= 0:
                    break
        return longest_ns(last)


class Moments(Struct):
    """What is counted and summed over the elements of a tensor."""

    count: Count = 0
    total: float = 0.0
    strange: Count = 0
    """Elements that are no finite number."""
    looks: Count = 0
    """Requests that they are of."""
    cells: Annotated[list[Count], Meta(max_length=33)] = field(default_factory=list)
    """How many lie below the first edge of the reference, between each two, and beyond the last."""


class Tally(Struct):
    """Everything that a rollout is judged by."""

    elapsed_ns: Count = 0
    """How long it has been under traffic, restarts left out."""
    sides: dict[str, Side] = field(default_factory=dict)
    """By release."""
    compared: Count = 0
    differing: Count = 0
    dropped: Count = 0
    """Requests that were to be asked again and were not: busy, or beyond the cost."""
    failed_again: Count = 0
    """Requests that the shadow failed where the stable release did not."""
    missed: Count = 0
    """Requests that another release answered, for the one they belong to could not."""
    moments: dict[str, Moments] = field(default_factory=dict)
    """By ``in.NAME`` and ``out.NAME``, of the canary."""

    def side(self, number: int) -> Side:
        """Of one release."""
        found = self.sides.get(str(number))
        if found is None:
            found = self.sides[str(number)] = Side()
        return found
