"""What is wrong with the feeds of models, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.feed import FeedConfig
from edged.config.identity import base_topic
from edged.config.problems import field_path, quote
from edged.config.schema import Config
from edged.errors import FieldError
from edged.topics import TopicFilter, TopicTemplate, can_match

_LARGEST = 16 << 20
"""Such an answer is made into JSON on the event loop, which others wait for."""
_OWN = {"status", "info", "models", "config", "error", "metrics", "req", "res"}
"""First levels below the base that answers must not be mixed into."""


def feed_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for name, model in config.models.items():
        if model.publish is not None:
            path = f"{field_path('models', name)}.publish"
            if config.mqtt is None:
                yield path, 'needs a broker; add "mqtt:" with at least "host: NAME"'
            yield from _of_one(config, path, name, model.publish)


def _of_one(config: Config, path: str, name: str, feed: FeedConfig) -> Iterator[tuple[str, str]]:
    if not 1 <= feed.max_size <= _LARGEST:
        yield f"{path}.max_size", "is outside what can work; expected 1B to 16MiB"
    try:
        template = TopicTemplate.parse(feed.to, f"{path}.to")
        if set(template.names) - {"model"}:
            yield f"{path}.to", "has named levels; only {model} stands for something here"
            return
        topic = template.render({"model": name})
        template = TopicTemplate.parse(topic, f"{path}.to")
    except FieldError as exc:
        yield f"{path}.to", exc.reason
        return
    base = base_topic(config)
    rest = topic[len(base) + 1 :].split("/")
    if topic == base or (topic.startswith(f"{base}/") and rest[0] in _OWN):
        yield f"{path}.to", f"{quote(topic)} is one of the daemon's own topics; use another"
    for binding in config.bindings:
        if binding is not None and _reads(binding, template):
            text = f"{quote(topic)} is read by binding {quote(binding.name)} (`from`)"
            yield f"{path}.to", f"{text}: answers would come back as requests; use another topic"


def _reads(binding: BindingConfig, template: TopicTemplate) -> bool:
    try:
        return can_match(template, TopicFilter.parse(binding.from_))
    except FieldError:
        return False  # said where it stands
