import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from converters.baked.nodes import put_in_front
from converters.baked.reference import preprocess
from converters.baked.words import Bake, Resize
from converters.errors import ConversionError, UnsupportedModelError
from converters.session import open_session

SHAPE = (12, 20, 16, 3)
SIZE = Resize(height=8, width=6)
SMOOTH = Resize(height=8, width=6, antialias=True)


def dims(model):
    return [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]


def test_with_a_resize_height_and_width_are_free(picture_model):
    model = picture_model()
    put_in_front(model, {"x": Bake(resize=SIZE)}, {"x": SHAPE}, 18)
    assert dims(model) == ["n", "x_height", "x_width", 3]
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    onnx.checker.check_model(model)


def test_without_one_they_are_the_models(picture_model):
    model = picture_model()
    put_in_front(model, {"x": Bake(layout="NCHW", dtype="float32")}, {"x": (12, 3, 8, 6)}, 18)
    assert dims(model) == ["n", 3, 8, 6]
    free = picture_model()
    free.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "tall"
    put_in_front(free, {"x": Bake()}, {"x": SHAPE}, 18)
    assert dims(free) == ["n", "tall", 6, 3]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("model_layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("resize", "opset"), [(None, 13), (SIZE, 13), (SIZE, 18), (SMOOTH, 18), (SMOOTH, 19)]
)
def test_every_way_computes_what_numpy_does(
    picture_model, pictures, layout, model_layout, resize, opset
):
    raw = pictures if resize else np.ascontiguousarray(pictures[:, :8, :6])
    raw = raw if layout == "NHWC" else np.ascontiguousarray(raw.transpose(0, 3, 1, 2))
    plain = picture_model(layout=model_layout, opset=opset)
    work = Bake(
        layout=layout,
        model_layout=model_layout,
        resize=resize,
        scale="1/255",
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.3, 0.4),
    )
    baked = onnx.ModelProto()
    baked.CopyFrom(plain)
    put_in_front(baked, {"x": work}, {"x": raw.shape}, opset)
    wanted = open_session(plain.SerializeToString())({"x": preprocess(work, raw)})
    got = open_session(baked.SerializeToString())({"x": raw})
    np.testing.assert_allclose(got["scores"], wanted["scores"], rtol=1e-4, atol=1e-5)


def test_what_the_opset_lacks_is_refused(picture_model):
    with pytest.raises(UnsupportedModelError, match="resize with antialias needs opset 18"):
        put_in_front(picture_model(opset=17), {"x": Bake(resize=SMOOTH)}, {"x": SHAPE}, 17)
    with pytest.raises(UnsupportedModelError, match="resize needs opset 13, the model has 12"):
        put_in_front(picture_model(opset=12), {"x": Bake(resize=SIZE)}, {"x": SHAPE}, 12)
    put_in_front(picture_model(opset=12), {"x": Bake()}, {"x": SHAPE}, 12)


def test_a_model_that_takes_no_float_picture_is_refused(picture_model):
    whole = picture_model(elem=TensorProto.INT32)
    with pytest.raises(ConversionError, match="takes int32; expected a float type"):
        put_in_front(whole, {"x": Bake()}, {"x": SHAPE}, 18)
    flat = picture_model()
    flat.graph.input[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 144]))
    with pytest.raises(ConversionError, match="input has 2 axes; expected 4, NCHW"):
        put_in_front(flat, {"x": Bake()}, {"x": SHAPE}, 18)


def test_a_half_precision_model_gets_halves(picture_model, pictures):
    model = picture_model(elem=TensorProto.FLOAT16)
    put_in_front(model, {"x": Bake(scale="1/255")}, {"x": (12, 8, 6, 3)}, 18)
    got = open_session(model.SerializeToString())({"x": pictures[:, :8, :6]})
    assert got["scores"].dtype == np.float16
