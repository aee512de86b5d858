"""Texts at which a generation ends, found in what comes piece by piece. Pure."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Holds back what may be the beginning of a stop text.

    Args:
        texts: none of them empty.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(texts)
        self._held = ""

    def take(self, text: str) -> tuple[str, bool]:
        """Take what came; returns what may be shown, and whether a stop text was found after it."""
        if not self._texts:
            return text, False
        text = self._held + text
        self._held = ""
        found = [at for at in map(text.find, self._texts) if at >= 0]
        if found:
            return text[: min(found)], True
        kept = max(_overlap(text, stop) for stop in self._texts)
        if kept:
            text, self._held = text[:-kept], text[-kept:]
        return text, False

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How much of the end of ``text`` is a beginning of ``stop``."""
    return next(n for n in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:n]))
