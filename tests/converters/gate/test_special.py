import pytest

from converters.errors import UnsupportedModelError
from converters.gate.special import refuse_special
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
