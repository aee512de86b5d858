"""The tree of filters finds what comparing each with each finds."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from edged.config.loops import FilterTree
from edged.topics import TopicFilter, TopicTemplate, can_match

LEVEL = st.sampled_from(["a", "b", "", "+"])
FILTER = st.tuples(st.lists(LEVEL, min_size=1, max_size=4), st.booleans()).map(
    lambda made: "/".join([*made[0], "#"] if made[1] else made[0])
)
TEMPLATE = st.lists(st.sampled_from(["a", "b", "", "{x}"]), min_size=1, max_size=5).map("/".join)


@given(st.lists(FILTER.filter(bool) | st.just("#"), max_size=8), TEMPLATE.filter(bool))
def test_same_as_comparing_each(filters: list[str], template: str) -> None:
    tree = FilterTree()
    parsed = [TopicFilter.parse(text) for text in filters]
    for number, item in enumerate(parsed):
        tree.add(number, item)
    target = TopicTemplate.parse(template)
    assert tree.reached_by(target) == [
        number for number, item in enumerate(parsed) if can_match(target, item)
    ]


def test_thousands_take_no_time() -> None:
    tree = FilterTree()
    started = time.process_time()
    for number in range(5000):
        tree.add(number, TopicFilter.parse(f"plant/{number}/+/in"))
    for number in range(5000):
        assert tree.reached_by(TopicTemplate.parse(f"plant/{number}/x/out")) == []
    assert tree.reached_by(TopicTemplate.parse("plant/7/{x}/in")) == [7]
    assert time.process_time() - started < 2
