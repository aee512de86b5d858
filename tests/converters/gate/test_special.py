import numpy as np
import pytest
from onnx import TensorProto, helper

from converters.errors import UnsupportedModelError
from converters.gate.rows import prove_rows
from converters.gate.special import refuse_special
from edged.manifest import Tolerance
from edged.strings import strings
from edged.tensors import to_bfloat16
from tests.converters import special_models as models


def test_it_tells_what_a_model_takes_and_gives(build_linear):
    assert refuse_special(build_linear(), "float16", bakes=True) == ()
    assert refuse_special(models.classifier(), "float32", bakes=False) == ("string", "string")
    assert refuse_special(models.half_adder(), "float32", bakes=False) == ("bfloat16", "bfloat16")


@pytest.mark.parametrize(
    ("precision", "bakes", "words"),
    [
        ("int8", False, 'input "colour" is string: --precision int8 is for'),
        ("float16", True, 'input "colour" is string: --precision float16 is for'),
        ("float32", True, 'input "colour" is string: bake is for'),
    ],
)
def test_what_would_change_its_numbers_is_refused(precision, bakes, words):
    with pytest.raises(UnsupportedModelError, match=words):
        refuse_special(models.classifier(), precision, bakes=bakes)


@pytest.mark.parametrize("code", [TensorProto.STRING, TensorProto.BFLOAT16])
def test_rows_that_change_one_another_are_found_in_either_type(code):
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", code, ["n"])], [value("y", code, ["n"])])
    rows = strings([b"a", b"b", b"c"], (3,))
    if code == TensorProto.BFLOAT16:
        rows = to_bfloat16(np.array([1, 2, 3], "f4"))
    model = helper.make_model(graph)
    prove_rows(model, lambda given: {"y": given["x"]}, {"x": rows}, Tolerance())
    with pytest.raises(UnsupportedModelError, match=r'output "y" is not row-wise'):
        prove_rows(model, lambda given: {"y": given["x"][::-1]}, {"x": rows}, Tolerance())
