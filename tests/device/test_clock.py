"""The kernel's word on its clock."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from edged.device.clock import is_synchronised


class FakeLibc:
    def __init__(self, state: int) -> None:
        self.adjtimex = lambda _buffer: state


@pytest.mark.parametrize(
    ("state", "is_good"), [(0, True), (1, True), (4, True), (5, False), (-1, False)]
)
def test_by_what_the_kernel_says(
    monkeypatch: pytest.MonkeyPatch, state: int, is_good: bool
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_a, **_k: FakeLibc(state))
    assert is_synchronised() is is_good


def test_where_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_a: Any, **_k: Any) -> Any:
        raise OSError("no library")

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert not is_synchronised()


def test_here() -> None:
    assert is_synchronised() in (True, False)
