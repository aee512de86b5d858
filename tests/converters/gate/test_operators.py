import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import UnsupportedModelError
from converters.gate.operators import place_of, refuse_operators
from converters.gate.rewrites import ANYTHING, REWRITES, advice_for
from converters.targets.table import TARGETS

TRACE = """File "/home/someone/site-packages/torch/nn/modules/module.py", line 1784, in _call_impl
    return forward_call(*args, **kwargs)
  File "/home/someone/project/net.py", line 41, in forward
    return torch.erfc(x)
"""


def model_of(op, domain="", *, opset=18, inputs=("x",), weights=(), **attributes):
    node = helper.make_node(op, list(inputs), ["y"], name="odd", domain=domain, **attributes)
    g = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        list(weights),
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(g, opset_imports=imports, ir_version=9)


def test_an_operator_nobody_has_is_told_with_node_module_line_and_rewrite():
    model = model_of("Erfc")
    node = model.graph.node[0]
    node.metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'encoder', 'encoder.act', 'erfc']"
    )
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
    with pytest.raises(UnsupportedModelError) as error:
        refuse_operators(model)
    text = str(error.value)
    assert 'Erfc (at "odd", module encoder.act, net.py:41)' in text
    assert "1 - Erf(x)" in text
    assert "any CPU, Python 3.10 and later (ONNX Runtime 1.23.2)" in text
    assert "/home" not in text


@pytest.mark.parametrize("notes", ["[", "7 +", ""])
def test_notes_that_cannot_be_read_are_left(notes):
    node = helper.make_node("Erfc", ["x"], ["y"])
    node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=notes)
    assert place_of(node) == '"y"'


def test_an_operator_of_another_domain_and_one_of_a_later_opset():
    with pytest.raises(UnsupportedModelError, match=r"my\.ops:Foo .*not ONNX's own"):
        refuse_operators(model_of("Foo", "my.ops"))
    with pytest.raises(UnsupportedModelError, match=r"Gelu .*from opset 20 on; ask for --opset 20"):
        refuse_operators(model_of("Gelu"))
    refuse_operators(model_of("Gelu", opset=20))


def test_an_operator_that_onnx_has_and_the_targets_runtime_has_not():
    """DeformConv is ONNX's own since opset 19; ONNX Runtime 1.23.2 has no kernel, 1.32.0 has one."""
    model = model_of("DeformConv", opset=22, inputs=("x", "x", "x"))
    with pytest.raises(UnsupportedModelError, match=r"DeformConv .*no kernel for it; use grid_sa"):
        refuse_operators(model, TARGETS["cpu"])
    refuse_operators(model, TARGETS["cpu-py311"])


def test_quantisers_of_onnx_runtime_are_known_and_its_other_operators_are_not():
    refuse_operators(model_of("QLinearAdd", "com.microsoft"))
    with pytest.raises(UnsupportedModelError, match=r"com\.microsoft:EPContext .*compiled blob"):
        refuse_operators(model_of("EPContext", "com.microsoft"))


def test_random_operators_and_dropout_left_on():
    with pytest.raises(UnsupportedModelError, match=r"RandomUniformLike .*at random"):
        refuse_operators(model_of("RandomUniformLike"))
    weights = [
        numpy_helper.from_array(np.array(0.5, "f4"), "ratio"),
        numpy_helper.from_array(np.array(True), "train"),
    ]
    left_on = model_of("Dropout", inputs=("x", "ratio", "train"), weights=weights)
    with pytest.raises(UnsupportedModelError, match=r"Dropout in training mode .*eval\(\)"):
        refuse_operators(left_on)
    refuse_operators(model_of("Dropout"))


def test_a_locale_that_slim_images_lack():
    with pytest.raises(UnsupportedModelError, match=r'locale "en_US.UTF-8".*locale C'):
        refuse_operators(model_of("StringNormalizer", locale="en_US.UTF-8"))
    with pytest.raises(UnsupportedModelError, match='asks for the locale "en_US"'):
        refuse_operators(model_of("StringNormalizer"))
    refuse_operators(model_of("StringNormalizer", locale="C"))


def test_a_model_that_failed_everywhere_gives_a_message_that_fits_a_screen():
    model = model_of("Foo0")
    for index in range(1, 40):
        model.graph.node.append(helper.make_node(f"Foo{index}", ["x"], [f"z{index}"]))
    with pytest.raises(UnsupportedModelError, match=r"; and 32 more$"):
        refuse_operators(model)


def test_every_rewrite_is_a_sentence_and_the_rest_has_one():
    assert advice_for("NeverHeardOf") == ANYTHING
    assert all(len(text) > 20 and not text.endswith(".") for text in REWRITES.values())
