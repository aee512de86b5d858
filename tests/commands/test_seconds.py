"""Times of the command line."""

from __future__ import annotations

import argparse

import pytest

from edged.commands.seconds import seconds


def test_a_number_of_them() -> None:
    assert (seconds("0"), seconds("1.5")) == (0.0, 1.5)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "10s", ""])
def test_no_such_number(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number of seconds"):
        seconds(text)
