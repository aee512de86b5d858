"""Whether this machine's clock is to be believed: the kernel knows if anybody set it.

A box without a battery starts in 1970, or on the day its image was built. Source: adjtimex(2).
"""

from __future__ import annotations

import ctypes

_TIMEX_BYTES = 512
"""struct timex has 208 on 64-bit machines; all zero, it asks and changes nothing."""
_UNSYNCHRONISED = 5
"""TIME_ERROR."""


def is_synchronised() -> bool:
    """Whether NTP (chrony, systemd-timesyncd, …) has set it; no where the kernel does not say."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state: int = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return False
    return 0 <= state < _UNSYNCHRONISED
