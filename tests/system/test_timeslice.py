"""The short slice of the loop's thread: what it changes, and what it leaves alone."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

import pytest

from edged.system import timeslice
from edged.system.timeslice import be_prompt

GET = {"x86_64": 315, "aarch64": 275}
pytestmark = pytest.mark.skipif(
    platform.machine() not in GET, reason="no number of the call for this machine"
)


class Found(NamedTuple):
    policy: int
    flags: int
    nice: int
    slice_ns: int


def look() -> Found:
    """What the kernel says of the calling thread (``sched_getattr``)."""
    told = ctypes.create_string_buffer(48)
    call = ctypes.c_long(GET[platform.machine()])
    size, flags = ctypes.c_long(48), ctypes.c_long(0)
    assert ctypes.CDLL(None).syscall(call, ctypes.c_long(0), told, size, flags) == 0
    _, policy, flags_now, nice, _, runtime, _, _ = struct.unpack("=IIQiIQQQ", told.raw)
    return Found(policy, flags_now, nice, runtime)


def in_a_thread(act: Callable[[], Found]) -> Found:
    """What a test does to a thread ends with it."""
    found: list[Found] = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def knows_slices() -> bool:
    release = os.uname().release.split(".")
    return (int(release[0]), int("".join(c for c in release[1] if c.isdigit()))) >= (6, 12)


def prompt() -> Found:
    be_prompt()
    return look()


def test_the_thread_gets_the_shortest_slice_and_nothing_else_of_it_changes() -> None:
    before = in_a_thread(look)
    after = in_a_thread(prompt)
    assert (after.policy, after.nice) == (before.policy, before.nice)
    if knows_slices():
        assert after.slice_ns == 100_000 < before.slice_ns


def test_threads_that_it_starts_have_the_usual_slice() -> None:
    usual = in_a_thread(look)

    def start() -> Found:
        be_prompt()
        return in_a_thread(look)

    assert in_a_thread(start) == usual


def test_a_lower_priority_is_kept() -> None:
    def lowered() -> Found:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 7)
        return prompt()

    found = in_a_thread(lowered)
    assert found.nice == 7
    if knows_slices():
        assert found.slice_ns == 100_000


def test_a_policy_that_somebody_chose_is_left_alone() -> None:
    def idle() -> Found:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return prompt()

    found = in_a_thread(idle)
    assert found.policy == os.SCHED_IDLE
    assert found.slice_ns != 100_000


def test_a_machine_whose_call_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_a_thread(look)
    monkeypatch.setattr(timeslice, "_CALL", {})
    assert in_a_thread(prompt) == before
