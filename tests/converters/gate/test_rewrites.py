import pytest
from onnx import defs

from converters.gate.rewrites import ANYTHING, REWRITES, advice_for


def test_an_operator_with_a_known_rewrite_gets_it_and_any_other_what_always_helps():
    assert "1 - Erf(x)" in advice_for("Erfc")
    assert advice_for("SomebodysOwn") == ANYTHING


@pytest.mark.parametrize("operator", REWRITES)
def test_nothing_is_listed_that_every_runtime_computes(operator):
    """A rewrite of an operator without one of these reasons would never be shown."""
    late = {"DeformConv", "ImageDecoder", "ZipMap"}
    assert operator in late or not defs.has(operator)
