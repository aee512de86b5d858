"""Topic filters and templates."""

from __future__ import annotations

import contextlib

from edged.errors import EdgedError
from edged.topics import TopicFilter, TopicTemplate, can_match


def run_topics(data: bytes) -> None:
    """Filter, template and topic, a line each; a rendering is caught where it may be caught."""
    words = [*data.decode("utf-8", "surrogateescape").split("\n", 2), "", ""][:3]
    topic_filter = template = None
    with contextlib.suppress(EdgedError):
        topic_filter = TopicFilter.parse(words[0])
        topic_filter.match(words[2])
    with contextlib.suppress(EdgedError):
        template = TopicTemplate.parse(words[1])
        levels = dict.fromkeys(template.names, words[2])
        topic = template.render(levels)
        if topic_filter is not None and topic_filter.match(topic) is not None:
            assert can_match(template, topic_filter)


def seed_topics() -> list[bytes]:
    return [
        b"plant/{site}/+/vib\nplant/{site}/out\na",
        b"plant/{site}/#\nplant/{a}/{b}\nplant",
        b"$SYS/broker/+\na//b\nx/y",
        "größe/{é}/+\na/{n}\nü".encode(),
    ]
