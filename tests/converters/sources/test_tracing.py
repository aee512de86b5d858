"""What is done around tf2onnx that no whole model shows."""

import pytest

from converters.errors import ConversionError
from converters.sources.base import SourceJob
from tests.converters.sources.tensorflow_cases import MARKS

pytestmark = MARKS


def test_the_opset_is_tf2onnxs_last_one_at_most():
    from converters.sources import tracing

    assert tracing.opset_of(SourceJob(framework="keras", source="x")) == 18
    assert tracing.opset_of(SourceJob(framework="keras", source="x", opset=17)) == 17
    with pytest.raises(ConversionError, match="opset 18 at most"):
        tracing.opset_of(SourceJob(framework="keras", source="x", opset=19))


def test_an_errors_first_line_is_never_empty():
    from converters.sources.tracing import first_line

    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
    said = "A total of 1 objects could not be loaded. Example error message for object d:\n\nwhy"
    assert first_line(ValueError(said)) == "why"
