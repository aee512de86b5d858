"""What the oracle counts as a broken promise, and what as a broker's own doing."""

from __future__ import annotations

import json

import pytest

from tests.chaos.book import Book, Fate, count, is_answer, request, row

GOOD = {"offered": True, "first_time": 1, "acked": 1, "sent": 1, "taken": 1, "heard": 1}


def test_a_good_fate() -> None:
    found = count({1: Fate(**GOOD), 2: Fate(**GOOD)})  # type: ignore[arg-type]
    assert found.is_kept
    assert (found.messages, found.acknowledged, found.through_outbox) == (2, 2, 1)
    assert found.open == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"sent": 0, "taken": 0, "heard": 0}, "lost"),
        ({"taken": 0, "heard": 0}, "lost"),  # said, and never arrived
        ({"wrong": 1}, "mismatched"),
        ({"sent": 2}, "unmarked"),
        ({"sent": 2, "again": 1}, "unmarked"),  # DUP was seen, and not passed on
        ({"acked": 0}, "open"),
    ],
)
def test_what_is_wrong(change: dict[str, int], wrong: str) -> None:
    found = count({1: Fate(**GOOD | change)})  # type: ignore[arg-type]
    assert getattr(found, wrong) == [1]
    assert found.is_kept == (wrong == "open")


@pytest.mark.parametrize(
    "change",
    [
        {"heard": 0},  # the broker had acknowledged the result
        {"first_time": 2, "sent": 2, "acked": 2},  # it forgot that it had the acknowledgement
        {"again": 1, "sent_marked": 1},
        {"first_time": 0, "acked": 0, "sent": 0, "taken": 0, "heard": 0},
        {"sent": 0, "taken": 0, "heard": 0, "letters": ["INTERNAL"]},
    ],
)
def test_what_is_none_of_ours_or_an_end_too(change: dict[str, object]) -> None:
    found = count({1: Fate(**GOOD | change)})  # type: ignore[arg-type]
    assert found.is_kept
    assert found.open == []


def test_brokers_losses_are_counted_apart() -> None:
    found = count({1: Fate(**GOOD | {"heard": 0}), 2: Fate(offered=True)})  # type: ignore[arg-type]
    assert (found.broker_lost_results, found.broker_lost_requests) == (1, 1)


def test_an_answer_belongs_to_its_request_alone() -> None:
    def answer(number: int) -> bytes:
        return json.dumps({"y": [2 * value for value in row(number)]}).encode()

    assert json.loads(request(3))[0][0] == 3
    assert is_answer(3, answer(3))
    assert not is_answer(3, answer(4))
    assert not is_answer(3, b"{}")
    assert not is_answer(3, b"\xff")
    book = Book()
    book.heard(3, answer(3))
    book.heard(3, answer(4))
    assert (book.of(3).heard, book.of(3).wrong) == (2, 1)
