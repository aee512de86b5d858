"""Keys and releases: shares that come out as written, and no key that ever changes side."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edged.rollout.split import Split, place, salt_of

KEYS = [f"device-{number}" for number in range(10_000)]
SALT = salt_of("pump", (3, 4))


@pytest.mark.parametrize(
    "weights",
    [{3: 70, 4: 30}, {3: 99, 4: 1}, {3: 1, 4: 1, 5: 2}, {3: 0, 4: 1}, {4: 100, 3: 0}],
    ids=str,
)
def test_shares_are_as_written_within_a_point(weights: dict[int, int]):
    split = Split(SALT, weights)
    chosen = [split.choose(key) for key in KEYS]
    for number, weight in weights.items():
        share = chosen.count(number) / len(KEYS)
        assert abs(share - weight / sum(weights.values())) < 0.01, (number, share)


def test_no_key_changes_side_in_another_process():
    code = (
        "from edged.rollout.split import Split, salt_of\n"
        "split = Split(salt_of('pump', (4, 3)), {3: 70, 4: 30})\n"
        "print(''.join(str(split.choose(f'device-{n}')) for n in range(10000)))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    split = Split(SALT, {3: 70, 4: 30})
    assert there == "".join(str(split.choose(key)) for key in KEYS)


def test_whoever_is_on_the_canary_stays_when_it_gets_more():
    small, large = Split(SALT, {4: 10, 3: 90}), Split(SALT, {4: 40, 3: 60})
    assert all(large.choose(key) == 4 for key in KEYS if small.choose(key) == 4)


def test_another_rollout_tries_its_release_on_others():
    other = salt_of("pump", (4, 5))
    first = {key for key in KEYS if place(SALT, key) < 0.1}
    second = {key for key in KEYS if place(other, key) < 0.1}
    assert len(first & second) < 0.2 * len(first)


@pytest.mark.parametrize("key", ["", "é", "\ud800", "x" * 10_000], ids=ascii)
def test_any_text_has_a_place(key: str):
    assert 0 <= place(SALT, key) < 1


@pytest.mark.parametrize("weights", [{}, {3: 0}, {3: -1, 4: 2}], ids=str)
def test_weights_that_are_none(weights: dict[int, int]):
    with pytest.raises(ValueError, match=r"expected shares|empty"):
        Split(SALT, weights)


def test_the_end_of_the_line_belongs_to_the_last():
    assert Split(SALT, {3: 1, 4: 2}).at(1.0) == 4
