"""The short slice of the loop's thread: what it changes, and what it leaves alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

import pytest

from edged.system import timeslice
from edged.system.timeslice import be_prompt, favour, usual_nice

GET = {"x86_64": 315, "aarch64": 275}
pytestmark = pytest.mark.skipif(
    platform.machine() not in GET, reason="no number of the call for this machine"
)


@pytest.fixture(autouse=True)
def as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test's thread says of the process ends with the test."""
    monkeypatch.setattr(timeslice, "_usual", None)


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


def rise() -> Found:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
    return look()


def without_rights() -> Found:
    """As a thread of a user's process: no capabilities (of its own, as they are each thread's)."""
    header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *[0] * 6)
    assert ctypes.CDLL(None).capset(header, none) == 0
    return prompt()


def test_without_a_right_to_more_weight_it_gets_the_slice() -> None:
    if resource.getrlimit(resource.RLIMIT_NICE)[0] > 20:
        pytest.skip("whoever runs this may rise")
    before, found = in_a_thread(look), in_a_thread(without_rights)
    assert found.nice == before.nice
    if knows_slices():
        assert found.slice_ns == 100_000


def test_the_process_is_as_nice_as_before() -> None:
    in_a_thread(prompt)
    assert usual_nice() == os.nice(0)


def test_the_thread_gets_the_shortest_slice_and_nothing_else_of_it_changes() -> None:
    before = in_a_thread(look)
    after = in_a_thread(prompt)
    may_rise = before.nice == 0 and in_a_thread(rise).nice == -10
    assert (after.policy, after.nice) == (before.policy, -10 if may_rise else before.nice)
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


def favoured(*, is_urgent: bool = True) -> Found:
    favour(threading.get_native_id(), is_urgent=is_urgent)
    return look()


def test_a_thread_of_runs_comes_near_the_loop_and_back_again() -> None:
    if in_a_thread(look).nice or in_a_thread(rise).nice != -10:
        pytest.skip("whoever runs this may not rise")
    assert in_a_thread(prompt).nice == -10
    assert in_a_thread(favoured).nice == -9

    def back() -> Found:
        favoured()
        return favoured(is_urgent=False)

    assert in_a_thread(back).nice == 0


def test_it_stays_as_it_is_where_the_loop_has_no_more_weight() -> None:
    before = in_a_thread(look)
    assert in_a_thread(favoured) == before
