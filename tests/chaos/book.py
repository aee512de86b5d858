"""The book of an oracle: what became of every message, and whether a promise was broken.

Pure. A message is a number; the request's payload follows from it, and so does the result's, so
that an answer to another one, or a damaged one, is seen. Many threads write, one lock.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any

DUP = "edged-dup"


def row(number: int) -> list[int]:
    """The numbers of a request: its own, and three that no other has."""
    digest = hashlib.blake2b(b"%d" % number, digest_size=6).digest()
    return [number, *(int.from_bytes(digest[at : at + 2], "big") for at in (0, 2, 4))]


def request(number: int) -> bytes:
    """What a device sends."""
    return json.dumps([row(number)]).encode()


def is_answer(number: int, payload: bytes) -> bool:
    """Whether this is the answer of a model that doubles."""
    try:
        found: Any = json.loads(payload)["y"]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(found == [2 * value for value in row(number)])


@dataclass
class Fate:
    """What was seen of one message."""

    offered: bool = False  # the first broker has acknowledged it to its device
    first_time: int = 0  # delivered to the daemon without DUP
    again: int = 0  # with it
    acked: int = 0  # acknowledged by the daemon
    sent: int = 0  # its result, by the daemon, without a mark
    sent_marked: int = 0
    taken: int = 0  # results that a broker acknowledged to the daemon
    heard: int = 0  # by the listener
    wrong: int = 0  # heard, and not its answer
    letters: list[str] = field(default_factory=list)


class Book:
    """Fates by number.

    Args:
        through_outbox: whether a message's result takes the way over the disk.
    """

    def __init__(self) -> None:
        self.fates: dict[int, Fate] = {}
        self.lock = threading.Lock()

    def of(self, number: int) -> Fate:
        """This one's fate, to be changed under the lock."""
        fate = self.fates.get(number)
        if fate is None:
            fate = self.fates[number] = Fate()
        return fate

    def heard(self, number: int, payload: bytes) -> None:
        """A listener has a result."""
        with self.lock:
            fate = self.of(number)
            fate.heard += 1
            fate.wrong += not is_answer(number, payload)

    def offered(self, number: int) -> None:
        """The first broker has acknowledged the request to its device."""
        with self.lock:
            self.of(number).offered = True

    def count(self) -> Count:
        """All of it, counted."""
        with self.lock:
            return count(self.fates)


@dataclass
class Count:
    """The table. ``lost``, ``mismatched`` and ``unmarked`` are promises that were broken."""

    messages: int = 0
    acknowledged: int = 0
    through_outbox: int = 0
    delivered_again: int = 0
    answered_again_marked: int = 0
    dead_letters: int = 0
    lost: list[int] = field(default_factory=list)
    mismatched: list[int] = field(default_factory=list)
    unmarked: list[int] = field(default_factory=list)
    open: list[int] = field(default_factory=list)
    broker_lost_requests: int = 0
    broker_lost_results: int = 0
    broker_repeats: int = 0

    @property
    def is_kept(self) -> bool:
        """Whether every promise was."""
        return not (self.lost or self.mismatched or self.unmarked)


def is_by_outbox(number: int) -> bool:
    """Which way a result takes: even ones are asked for with a response topic."""
    return number % 2 == 1


def count(fates: dict[int, Fate]) -> Count:
    """Sort every fate into the table."""
    found = Count(messages=sum(fate.offered for fate in fates.values()))
    for number, fate in fates.items():
        deliveries = fate.first_time + fate.again
        is_delivered = fate.heard or fate.taken
        found.acknowledged += fate.acked > 0
        found.through_outbox += is_by_outbox(number) and fate.taken > 0
        found.delivered_again += fate.again > 0
        found.answered_again_marked += fate.sent_marked
        found.dead_letters += len(fate.letters)
        # What the broker itself delivers anew is another request: it may be answered anew.
        found.broker_repeats += max(0, fate.first_time - 1)
        if fate.acked and not is_delivered and not fate.letters:
            found.lost.append(number)
        if fate.wrong:
            found.mismatched.append(number)
        if fate.sent > max(1, fate.first_time):
            found.unmarked.append(number)
        if fate.taken and not fate.heard:
            found.broker_lost_results += 1
        if fate.offered and not deliveries:
            found.broker_lost_requests += 1
        if deliveries and not fate.acked:
            found.open.append(number)
    return found
