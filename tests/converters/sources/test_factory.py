"""``module:factory``: found, called, and told in one sentence where it is not."""

import pytest

from converters.errors import ConversionError
from converters.sources.factory import build, named


def test_named_and_built():
    assert named("collections:OrderedDict") is not None
    assert build("collections:OrderedDict") == {}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("no_such_module:build", "ModuleNotFoundError"),
        ("collections:nothing", "has no attribute 'nothing'"),
        ("operator:add", r"TypeError: .*take no arguments\?"),
    ],
)
def test_what_is_not_there(source, words):
    with pytest.raises(ConversionError, match=words):
        build(source)
