"""What may be written about axes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edged.config.shapes import ReshapeConfig, TransposeConfig, WindowsConfig


def test_defaults():
    windows = msgspec.convert({"from": "x", "size": 4}, WindowsConfig)
    assert (windows.axis, windows.step, windows.pad) == (0, 0, False)
    assert msgspec.convert({"from": "x", "shape": []}, ReshapeConfig).shape == ()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (WindowsConfig, {"from": "x", "size": 0}),
        (WindowsConfig, {"from": "x", "size": 2, "step": -1}),
        (WindowsConfig, {"from": "x", "size": 2, "axis": 8}),
        (TransposeConfig, {"from": "x", "axes": []}),
        (TransposeConfig, {"from": "x", "axes": [8]}),
        (ReshapeConfig, {"from": "x", "shape": [-2]}),
        (ReshapeConfig, {"from": "x", "shape": [1] * 9}),
    ],
)
def test_refused(kind: type, words: dict[str, Any]):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(words, kind)
