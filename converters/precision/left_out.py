"""What of a set cannot be calibrated with: counted and named, and refused where it is too much.

A device refuses a broken picture or message too, so a few of them say nothing about the others;
many say that the set, or what the bundle says of its input, is the wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from converters.errors import ConversionError
from converters.precision.calibration import MIN_ROWS

ONE_IN = 10
"""More than one in so many is no accident."""
SHOWN = 3


@dataclass
class LeftOut:
    """What did not decode, by its name.

    Args:
        file: the set, for messages.
        kind: what it is made of, ``pictures`` or ``messages``.
        total: how many of them are looked at.
        hint: what else a user may do, for the refusal.
    """

    file: str
    kind: str
    total: int
    hint: str
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Note one; a second time it is the same one.

        Raises:
            ConversionError: they are too many.
        """
        self.reasons[name] = reason
        if len(self.reasons) * ONE_IN > self.total:
            first, why = next(iter(self.reasons.items()))
            where = f'calibration "{self.file}": over a tenth of the {self.total} {self.kind}'
            raise ConversionError(f"{where} do not decode; the first, {first}: {why}; {self.hint}")

    def check_enough(self, rows: int) -> None:
        """Refuse a set of which too little is left.

        Raises:
            ConversionError: fewer than MIN_ROWS rows.
        """
        if rows < MIN_ROWS:
            raise ConversionError(
                f'calibration "{self.file}": expected at least {MIN_ROWS} rows, got {rows} of '
                f"{self.total} {self.kind}; some hundred that look like what the device will see "
                "are better"
            )

    def told(self) -> str:
        """The same in words; empty where nothing was left out."""
        if not self.reasons:
            return ""
        named = [f"{name}: {why}" for name, why in list(self.reasons.items())[:SHOWN]]
        more = [] if len(self.reasons) <= SHOWN else ["…"]
        return f"{len(self.reasons)} left out ({'; '.join([*named, *more])})"
