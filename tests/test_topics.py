import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import FieldError
from edged.topics import MAX_LEVELS, TopicFilter, TopicTemplate, can_match, check_topic


@pytest.mark.parametrize(
    ("text", "mqtt", "names"),
    [
        ("plant/{site}/+/vib", "plant/+/+/vib", ("site",)),
        ("plant/{site}/{device}/#", "plant/+/+/#", ("site", "device")),
        ("a", "a", ()),
        ("#", "#", ()),
        ("/a//b", "/a//b", ()),
        ("$SYS/broker/+", "$SYS/broker/+", ()),
        ("$share/fleet/in/{site}/#", "$share/fleet/in/+/#", ("site",)),
    ],
)
def test_filters_compile_to_what_the_broker_understands(text, mqtt, names):
    parsed = TopicFilter.parse(text)
    assert (parsed.mqtt, parsed.names, parsed.source) == (mqtt, names, text)


def test_a_shared_filter_catches_what_it_would_alone():
    shared, alone = TopicFilter.parse("$share/fleet/in/{site}"), TopicFilter.parse("in/{site}")
    assert (shared.group, shared.plain) == ("fleet", "in/+")
    assert (alone.group, alone.plain) == ("", "in/+")
    assert shared.match("in/hall") == alone.match("in/hall") == {"site": "hall"}
    assert shared.match("$share/fleet/in/hall") is None
    assert can_match(TopicTemplate.parse("in/{x}"), shared)
    assert not can_match(TopicTemplate.parse("out/{x}"), shared)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a/#/b", "last level"),
        ("a/b#", "mixes text and wildcard"),
        ("a/+b", "mixes text and wildcard"),
        ("a/{b", "mixes text and wildcard"),
        ("a/x{b}", "mixes text and wildcard"),
        ("a/{1b}", "mixes text and wildcard"),
        ("a/{b}/{b}", "occurs twice"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a/\ud800", "surrogate"),
        ("x" * 1025, "limit is 1024"),
        ("/" * MAX_LEVELS, "levels"),
        ("$share/g", "$share/GROUP/TOPIC"),
        ("$share//a", "no group of a shared filter"),
        ("$share/{g}/a", "no group of a shared filter"),
        ("$share/+/a", "no group of a shared filter"),
        ("$share/g/", "$share/GROUP/TOPIC"),
    ],
)
def test_bad_filters_are_refused(text, message):
    with pytest.raises(FieldError, match=re.escape(message)) as caught:
        TopicFilter.parse(text, "bindings[0].from")
    assert caught.value.path == "bindings[0].from"


@pytest.mark.parametrize(
    ("text", "topic", "levels"),
    [
        ("plant/{site}/+/vib", "plant/a/b/vib", {"site": "a"}),
        ("plant/{site}/+/vib", "plant/a/vib", None),
        ("plant/{site}/+/vib", "plant/a/b/vib/c", None),
        ("plant/{site}/#", "plant/a", {"site": "a"}),
        ("plant/{site}/#", "plant/a/b/c", {"site": "a"}),
        ("plant/{site}/#", "plant", None),
        ("plant/#", "plant", {}),
        ("{x}", "", {"x": ""}),
        ("+/{x}", "/a", {"x": "a"}),
        ("#", "$SYS/broker", None),
        ("+/broker", "$SYS/broker", None),
        ("{x}/broker", "$SYS/broker", None),
        ("$SYS/+", "$SYS/broker", {}),
        ("a/+", "a/$b", {}),
        ("Plant", "plant", None),
    ],
)
def test_matching(text, topic, levels):
    assert TopicFilter.parse(text).match(topic) == levels


def test_templates_render():
    template = TopicTemplate.parse("plant/{site}/{device}/out/{site}")
    assert template.names == ("site", "device")
    assert template.render({"site": "a", "device": "", "x": "y"}) == "plant/a//out/a"


@pytest.mark.parametrize("value", ["a/b", "+", "#", "a\0", "x" * 1024])
def test_templates_refuse_values_that_are_not_one_level(value):
    with pytest.raises(FieldError):
        TopicTemplate.parse("plant/{site}").render({"site": value})


def test_templates_refuse_missing_names():
    with pytest.raises(FieldError, match="site"):
        TopicTemplate.parse("plant/{site}").render({})


@pytest.mark.parametrize("text", ["", "a/+", "#", "a/b+", "$SYS/a", "a/{b", "a\0"])
def test_bad_templates_are_refused(text):
    with pytest.raises(FieldError):
        TopicTemplate.parse(text)


@pytest.mark.parametrize(
    ("template", "topic_filter", "expected"),
    [
        ("plant/{s}/out", "plant/{s}/in", False),
        ("plant/{s}/out", "plant/{s}/{x}", True),
        ("plant/{s}/{d}", "plant/+/in", True),
        ("plant/out", "plant/#", True),
        ("plant", "plant/#", True),
        ("plant/a/b", "plant/+", False),
        ("{x}/a", "$SYS/a", True),
        ("out", "#", True),
        ("a/b", "a/b/c", False),
    ],
)
def test_loops_are_found(template, topic_filter, expected):
    assert can_match(TopicTemplate.parse(template), TopicFilter.parse(topic_filter)) is expected


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "$SYS/x", "a\x00", "a" * 1025])
def test_topics_to_publish_to(topic):
    with pytest.raises(FieldError):
        check_topic(topic, "response topic")


LEVEL = st.sampled_from(["", "a", "b", "$c"])


@given(
    st.lists(st.one_of(LEVEL, st.sampled_from(["+", "{p}", "#"])), min_size=1, max_size=4),
    st.lists(LEVEL, min_size=1, max_size=4),
)
def test_can_match_agrees_with_match_on_plain_topics(filter_levels, topic_levels):
    try:
        topic_filter = TopicFilter.parse("/".join(filter_levels))
        template = TopicTemplate.parse("/".join(topic_levels))
    except FieldError:
        return
    topic = template.render({})
    if topic_filter.match(topic) is not None:
        assert can_match(template, topic_filter)


@given(st.text(max_size=40))
def test_parsing_raises_nothing_but_field_errors(text):
    for parse in (TopicFilter.parse, TopicTemplate.parse):
        with contextlib.suppress(FieldError):
            parse(text)
