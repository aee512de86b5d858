"""Which release a key belongs to: always the same one, on every device, after every restart.

Pure. A key has a place between 0 and 1, by a hash; each release has a stretch of that line as long
as its share. The salt is made of the model's name and the releases, so that nothing need be kept:
the same rollout has the same salt, and the next one does not try its release on the same few again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

_UNIT = 1 << 64


def salt_of(model: str, numbers: Sequence[int]) -> bytes:
    """The salt of a rollout."""
    text = f"{model}\0{','.join(map(str, sorted(numbers)))}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def place(salt: bytes, key: str) -> float:
    """Where a key lies, from 0 up to but not including 1."""
    data = key.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8, key=salt).digest()
    return (int.from_bytes(digest, "little") >> 11) * (1 / (_UNIT >> 11))


class Split:
    """Shares of releases.

    Args:
        salt: of the rollout.
        weights: release and share; the shares may have any sum above 0. The first ones written
            begin the line: where the share of a first one grows, nobody leaves it.
    """

    def __init__(self, salt: bytes, weights: Mapping[int, int]) -> None:
        total = sum(weights.values())
        if total <= 0 or min(weights.values()) < 0:
            raise ValueError(f"weights {dict(weights)}: expected shares from 0, not all of them 0")
        self._salt = salt
        self._ends: list[tuple[float, int]] = []
        so_far = 0
        for number, weight in weights.items():
            so_far += weight
            if weight:
                self._ends.append((so_far / total, number))

    @property
    def numbers(self) -> frozenset[int]:
        """The releases that have a share."""
        return frozenset(number for _, number in self._ends)

    def choose(self, key: str) -> int:
        """The release that a key belongs to."""
        return self.at(place(self._salt, key))

    def at(self, where: float) -> int:
        """The release at a place of the line."""
        for end, number in self._ends:
            if where < end:
                return number
        return self._ends[-1][1]
