"""How much memory is made and kept for requests that come again, without a daemon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edged.clients.stock import AT_ONCE, Kinds, Stock
from edged.errors import DisconnectedError, QueueFullError
from edged.messages import InferRequest


class Piece:
    """Memory that notes what becomes of it."""

    def __init__(self, rows: int) -> None:
        self.is_idle = True
        self.ends: list[str] = []
        self.places: Any = SimpleNamespace(rows=rows, close=lambda: self.ends.append("closed"))

    def forget(self) -> None:
        self.ends.append("forgotten")


def begun(rows: int = 1) -> Stock[Piece]:
    stock = Stock[Piece]()
    assert stock.take(rows) == (None, False), "the first of a kind goes by the socket"
    return stock


def make(stock: Stock[Piece], rows: int = 1) -> Piece:
    assert stock.take(rows) == (None, True)
    with stock.making():
        return Piece(rows)


def test_what_is_given_back_is_taken_again():
    stock = begun()
    piece = make(stock)
    stock.give(piece)
    assert stock.take(1) == (piece, False)
    assert piece.ends == []


def test_so_many_at_once():
    stock = begun()
    pieces = [make(stock) for _ in range(AT_ONCE)]
    assert stock.take(1) == (None, False)
    pieces[0].is_idle = False  # something may still write to it
    stock.give(pieces[0])
    assert pieces[0].ends == ["forgotten", "closed"]
    assert stock.take(1) == (None, True)


def test_other_rows_begin_anew():
    stock = begun()
    idle, used = make(stock), make(stock)
    stock.give(idle)
    assert stock.take(2) == (None, False)
    assert idle.ends == ["forgotten", "closed"]
    stock.give(used)
    assert used.ends == ["forgotten", "closed"]
    make(stock, 2)


@pytest.mark.parametrize(
    ("error", "is_asked_again"),
    [
        (DisconnectedError("gone"), True),
        (KeyboardInterrupt(), True),
        (QueueFullError("limits.max_regions"), False),
        (OSError("no memory"), False),
    ],
)
def test_what_cannot_be_made(error: BaseException, is_asked_again: bool):
    stock = begun()
    for _ in range(AT_ONCE + 1 if is_asked_again else 1):
        assert stock.take(1) == (None, True)
        try:
            with stock.making():
                raise error
        except KeyboardInterrupt:
            assert error.__class__ is KeyboardInterrupt
    assert stock.take(1) == (None, is_asked_again)
    stock.close()
    assert stock.take(1) == (None, False)
    assert stock.take(1) == (None, True), "closed, it asks anew"


def test_of_many_kinds_the_oldest_goes():
    closed: list[int] = []

    def made(plan: Any) -> Any:
        (spec,) = plan.request.inputs
        return SimpleNamespace(rows=spec.shape[0], close=lambda: closed.append(spec.shape[0]))

    def request(rows: int) -> InferRequest:
        return InferRequest("m", {"x": np.ones((rows, 4), np.float32)})

    kinds = Kinds[Any](made)
    first = kinds.find(request(1))
    for rows in range(2, AT_ONCE + 1):
        kinds.find(request(rows))
    assert kinds.find(request(1)) is first, "asked for again, it is the newest"
    kinds.find(request(9))
    assert closed == [2]
