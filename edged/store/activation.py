"""The activation log: which release a model was trying, how often, and whether it proved good.

Decides what a log means after a crash; ``repository.py`` writes it. One line a record: CRC-32 in
hex, a space, JSON. A torn or damaged line is passed over: the slots on disk say what serves, the
log only says how sure of it we are.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

ATTEMPTS_CAP = 3
"""A release that did not prove good in three starts is set aside."""
LINE_CAP_BYTES = 4096


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One event of one model.

    Args:
        event: ``try`` before a slot changes, ``good`` once it proved itself, ``bad`` when it was
            set aside.
        model: the model's name.
        digest: the release.
        attempts: starts so far without ``good``.
        current: what the slot held before the try; None when it was empty.
        previous: likewise for the slot behind it.
    """

    event: Literal["try", "good", "bad"]
    model: str
    digest: str
    attempts: int = 0
    current: str | None = None
    previous: str | None = None


_DECODER = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """One line of the log."""
    text = msgspec.json.encode(record)
    return b"%08x %s\n" % (zlib.crc32(text), text)


@dataclass(frozen=True, slots=True)
class History:
    """What a log says.

    Args:
        last: the latest ``try`` or ``good`` of each model.
        bad: digests that were set aside and not tried again since.
        damaged: lines that could not be read.
    """

    last: Mapping[str, Record]
    bad: Mapping[str, Record]
    damaged: int = 0

    def records(self) -> list[Record]:
        """The shortest log that says the same."""
        return [*self.bad.values(), *self.last.values()]


def read_log(data: bytes) -> History:
    """Read a log as far as it can be read. Raises nothing."""
    last: dict[str, Record] = {}
    bad: dict[str, Record] = {}
    damaged = 0
    lines = data.split(b"\n")
    damaged += bool(lines.pop())
    for line in lines:
        record = _decode(line)
        if record is None:
            damaged += 1
        elif record.event == "bad":
            bad[record.digest] = record
            if record.model in last and last[record.model].digest == record.digest:
                del last[record.model]
        else:
            last[record.model] = record
            bad.pop(record.digest, None)
    return History(last, bad, damaged)


def _decode(line: bytes) -> Record | None:
    try:
        if len(line) > LINE_CAP_BYTES or int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        return _DECODER.decode(line[9:])
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with one model's slots at start.

    Args:
        current: what the slot should hold, or None to empty it.
        previous: likewise for the slot behind it.
        record: what the log should say of the model now, or None for nothing.
        pending: what the log must say until the slots hold that, or None for nothing.
        reason: why it differs from what was found; empty when it does not.
    """

    current: str | None
    previous: str | None
    record: Record | None = None
    pending: Record | None = None
    reason: str = ""


def judge(
    current: str | None,
    previous: str | None,
    last: Record | None,
    intact: Mapping[str, bool],
) -> Verdict:
    """The crash rules for one model at start.

    Args:
        current: the digest in its slot.
        previous: the digest in the slot behind it.
        last: the latest record of the model.
        intact: for both digests, whether the store has them whole.
    """
    if last is not None and last.event == "try" and last.digest != current:
        # The try was noted, the swap did not come about: the slot behind goes back too.
        if last.current == current:
            previous = last.previous
        verdict = judge(current, previous, None, intact)
        if last.attempts >= ATTEMPTS_CAP:
            # It did, and was undone by a start that ended before it could say so.
            bad = Record(event="bad", model=last.model, digest=last.digest, attempts=last.attempts)
            verdict = replace(verdict, record=bad)
        return replace(verdict, pending=last)
    behind = previous if previous is not None and intact.get(previous) else None
    if current is None:
        return Verdict(None, previous)
    if not intact.get(current):
        reason = f"release {current[:12]} is missing or damaged in the store"
        return Verdict(behind, None, reason=reason)
    if last is None or last.digest != current or last.event != "try":
        return Verdict(current, previous, last)
    attempts = last.attempts + 1
    counted = msgspec.structs.replace(last, attempts=attempts)
    if attempts < ATTEMPTS_CAP:
        return Verdict(current, previous, counted)
    bad = Record(event="bad", model=last.model, digest=current, attempts=attempts)
    reason = f"release {current[:12]} did not prove good in {attempts} starts"
    return Verdict(behind, None, bad, counted, reason)
