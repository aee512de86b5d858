"""TFLite files, against TensorFlow's own interpreter."""

from tests.converters.sources.tensorflow_cases import MARKS

pytestmark = MARKS


def test_converts_under_the_names_of_its_signature(tensorflow_outcomes):
    got = tensorflow_outcomes["old-tflite"]
    assert not got.error
    assert got.inputs == ["x float32[batch,8]"]
    assert got.max_abs < 1e-5


def test_an_operator_that_tf2onnx_lacks_is_named(tensorflow_outcomes):
    assert 'does not compute: TFL_GELU (at "' in tensorflow_outcomes["tflite"].error


def test_a_broken_file_is_told(tensorflow_outcomes):
    assert '"broken.tflite" is not a TFLite file' in tensorflow_outcomes["broken-tflite"].error
