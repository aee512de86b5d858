"""A run that failed because its device is gone, told from one that failed on its inputs.

Decides by CUDA's numbers and by its words for them, which the packages hand on in their messages
("CUDA failure 719: unspecified launch failure ; GPU=0", "(status 700)"). After each of these the
process's work on that GPU is over: CUDA answers every later call with the same error. Memory that
is short, or a call that a kernel got wrong (101 has come from a single operator), is no loss.
"""

from __future__ import annotations

import re

from edged.errors import DeviceLostError, RunError

_LOST = frozenset(
    {
        46,  # all devices are busy or unavailable
        100,  # no device is detected
        214, 220,  # uncorrectable errors of memory and of NVLink
        700, 702,  # illegal address, launch timed out
        709, 710,  # the context is destroyed, device-side assert
        714, 715, 716, 717, 718, 719,  # stack, instruction, alignment, space, counter, launch
        806, 810,  # the MPS server failed, or ended this client
        999,  # unknown: what a GPU that fell off the bus answers
    }
)  # fmt: skip
_NUMBER = re.compile(r"\b(?:CUDA (?:failure|error)|status) (\d{1,4})\b")
_WORDS = re.compile(
    r"unspecified launch failure|illegal memory access|launch timed out|device-side assert"
    r"|misaligned address|illegal instruction|hardware stack error|invalid program counter"
    r"|uncorrectable (?:ECC|NVLink) error|no CUDA-capable device|context is destroyed"
    r"|ZE_RESULT_ERROR_DEVICE_LOST|CL_DEVICE_NOT_AVAILABLE",
    re.IGNORECASE,
)


def tells_of_loss(words: str) -> bool:
    """Whether a backend's message says that its device is lost to this process."""
    return any(int(found) in _LOST for found in _NUMBER.findall(words)) or bool(
        _WORDS.search(words)
    )


def run_error(message: str, words: str = "") -> RunError:
    """The error of a run that failed.

    Args:
        message: for people.
        words: what the backend said, in full; empty where ``message`` has it.
    """
    return (DeviceLostError if tells_of_loss(words or message) else RunError)(message)
