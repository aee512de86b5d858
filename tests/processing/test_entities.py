import pytest

from edged.errors import FieldError
from edged.processing.entities import MOST_ENTITIES, entities_of
from edged.specs import OutputProcessing, OutputSpec
from tests.fakes.manifests import make_manifest

X = [("x", "float32", ("batch", 2))]


PLAIN = OutputSpec()


def templates(outputs, spec=PLAIN, **words):
    found = entities_of(spec, make_manifest(X, outputs, **words))
    return {name: one["value_template"] for name, one in found.items()}


def test_labels_and_scores():
    labels = {"y": OutputProcessing(labels=("a", "b", "c"))}
    expected = {"label": "{{ value_json.label }}", "score": "{{ value_json.score }}"}
    outputs = [("y", "float32", ("batch", 3))]
    assert templates(outputs, output_processing=labels) == expected
    assert templates(outputs, OutputSpec(top_k=1)) == expected


def test_numbers():
    outputs = [
        ("sum", "float32", ("batch",)),
        ("pair", "float32", ("batch", 2)),
        ("mask", "float32", ("batch", 64, 64)),
        ("long", "float32", ("batch", 17)),
        ("bad'name", "float32", ("batch",)),
    ]
    assert templates(outputs) == {
        "sum": "{{ value_json['sum'] }}",
        "pair 0": "{{ value_json['pair'][0] }}",
        "pair 1": "{{ value_json['pair'][1] }}",
    }
    assert list(templates(outputs, OutputSpec(tensor="sum"))) == ["sum"]


def test_nothing_to_show():
    with pytest.raises(FieldError, match="is a label or a few numbers"):
        templates([("mask", "float32", ("batch", 64, 64))])


def test_a_bound():
    outputs = [(f"y{number}", "float32", ("batch", 16)) for number in range(5)]
    assert len(templates(outputs)) == MOST_ENTITIES
