"""Whether there is a choice in what is to be loaded."""

from __future__ import annotations

import pytest

from edged.config.schema import ModelConfig
from edged.serving.choosing.order import LoadOrder, precisions, with_several
from tests.fakes.model import FakeStored, doubler
from tests.fakes.precisions import TwoStored


def order(stored: FakeStored, runtime: tuple[str, ...]) -> LoadOrder:
    return LoadOrder("d" * 64, stored, ModelConfig(bundle="b", runtime=runtime))


def test_as_the_bundle_lists_them() -> None:
    asked = order(TwoStored(), ("tensorrt", "onnxruntime"))
    assert with_several(asked) == ["onnxruntime"]
    assert precisions(asked) == ("float32", "int8")


@pytest.mark.parametrize(
    ("stored", "runtime"),
    [(FakeStored(doubler()), ("onnxruntime",)), (TwoStored(), ("tensorrt",))],
    ids=["one file", "no file for it"],
)
def test_no_choice(stored: FakeStored, runtime: tuple[str, ...]) -> None:
    assert precisions(order(stored, runtime)) == ()
