"""The values of an answer, known before there is one."""

import pytest

from edged.errors import FieldError
from edged.processing.readings import Reading, readings_of
from edged.specs import OutputProcessing, OutputSpec
from tests.fakes.manifests import make_manifest


def readings(*outputs, spec=None, **words):
    manifest = make_manifest([("x", "float32", ("batch", 2))], list(outputs), **words)
    return readings_of(spec or OutputSpec(), manifest)


def test_each_output_and_each_entry_of_a_short_list():
    found = readings(
        ("y", "float32", ("batch",)),
        ("v", "int8", ("batch", 2)),
        ("on", "bool", ("batch", 1)),
        ("big", "uint64", ("batch",)),
        ("picture", "float32", ("batch", 40)),
    )
    assert [(one.name, one.kind) for one in found] == [
        ("y", "number"), ("v/0", "whole"), ("v/1", "whole"), ("on/0", "flag"), ("big", "large"),
    ]  # fmt: skip
    row = {"y": 1.5, "v": [3, 4], "on": [True], "big": 7}
    assert [one.of(row) for one in found] == [1.5, 3, 4, True, 7]
    assert [one.of({"v": [3]}) for one in found] == [None, 3, None, None, None]


def test_a_label_and_its_score():
    found = readings(
        ("p", "float32", ("batch", 2)),
        output_processing={"p": OutputProcessing(labels=("a", "b"))},
    )
    assert found == (Reading("label", "text", "label"), Reading("score", "number", "score"))


def test_nothing_to_show():
    with pytest.raises(FieldError, match="a few numbers a row"):
        readings(("picture", "float32", ("batch", 40)))
