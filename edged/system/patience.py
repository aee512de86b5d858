"""When to wait awake for the other end of a socket: learnt from how often it was worth it.

Waking a core that went to sleep costs some 40 us, five times what a small model runs; a core that
stays awake for an answer that does not come is time taken from others. Pure: told how waits ended.
"""

from __future__ import annotations

from edged.system.cores import usable

_MISSES_CAP, _WITHOUT = 4, 64
"""After so many waits in vain (a slow model, a quiet client) so many are left out."""


class Patience:
    """For one socket.

    Args:
        wait_ns: the longest wait, nanoseconds; never any where this process has one core, for the
            other end could not work meanwhile.
    """

    def __init__(self, wait_ns: int) -> None:
        self.wait_ns = wait_ns if len(usable()) > 1 else 0
        self._misses = 0
        self._left_out = 0

    def is_worth_it(self) -> bool:
        """Whether to wait awake now; then ``ended`` is to be called."""
        if self._misses < _MISSES_CAP:
            return self.wait_ns > 0
        self._left_out += 1
        if self._left_out <= _WITHOUT:
            return False
        self._misses = self._left_out = 0
        return self.wait_ns > 0

    def ended(self, *, in_time: bool) -> None:
        """What was waited for came, or not."""
        self._misses = 0 if in_time else self._misses + 1
