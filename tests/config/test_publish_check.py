import pytest

from edged.config.binding import BindingConfig
from edged.config.publish import PublishConfig
from edged.config.publish_check import publish_problems
from edged.specs import Duration

S = Duration(10**9)


def problems(words, **more):
    values = {"name": "b", "from_": "in/{site}/#", "to": "out", "model": "m"} | more
    binding = BindingConfig(publish=PublishConfig(**words) if words else None, **values)
    return [where for where, _ in publish_problems(binding, "b")]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"when": "on_change", "silence": S, "field": "label"},
        {"when": "dead_band", "band": 0.5, "key": "{site}"},
        {"when": "every", "every": S},
        {"when": "above", "threshold": -3.0},
    ],
)
def test_good(words):
    assert problems(words) == []


@pytest.mark.parametrize(
    ("words", "more", "where"),
    [
        ({"when": "every"}, {}, "when"),
        ({"when": "above"}, {}, "when"),
        ({"when": "on_change", "band": 1.0}, {}, "band"),
        ({"when": "on_change", "threshold": 1.0}, {}, "threshold"),
        ({"when": "on_change", "every": S}, {}, "every"),
        ({"field": "x"}, {}, "field"),
        ({"when": "every", "every": S, "field": "x"}, {}, "field"),
        ({"when": "every", "every": Duration(1)}, {}, "every"),
        ({"when": "on_change", "silence": Duration(1)}, {}, "silence"),
        ({"when": "on_change", "key": "{device}"}, {}, "key"),
        ({"when": "on_change", "key": "a/+"}, {}, "key"),
    ],
)
def test_refused(words, more, where):
    assert problems(words, **more) == [f"b.publish.{where}"]


@pytest.mark.parametrize("more", [{"to": None}, {"stream": True}])
def test_nothing_to_leave_out(more):
    assert problems({"when": "on_change"}, **more) == ["b.publish"]


def test_a_bad_filter_is_reported_where_it_stands():
    assert problems({"when": "on_change", "key": "{site}"}, from_="a/#/b") == []
