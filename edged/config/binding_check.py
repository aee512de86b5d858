"""What is wrong with bindings, from values alone: what each names, and where its topics lead.

A result that could reach a binding, or mix with what the daemon itself publishes, is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edged.config.binding import BindingConfig
from edged.config.broker_lines import meets
from edged.config.convert import Draft
from edged.config.discovery_check import discovery_problems
from edged.config.identity import base_topic
from edged.config.loops import FilterTree
from edged.config.payload_check import payload_problems
from edged.config.problems import did_you_mean, field_path, quote
from edged.config.publish_check import publish_problems
from edged.config.schema import Config
from edged.config.sparkplug_check import own_sparkplug_topics, sparkplug_problems
from edged.errors import FieldError
from edged.topics import TopicFilter, TopicTemplate, can_match

Found = tuple[str, str]
"""A field path and what is wrong with it."""

OWN_TOPICS = (
    "status",
    "info",
    "models",
    "models/+/state",
    "config/+",
    "error/+",
    "metrics",
    "res/+",
)
"""What the daemon itself publishes below its base topic, beside results."""

_MOST_LOOPS = 5
"""A result that reaches more bindings than this is understood."""
_SECOND = 10**9


class _Route(NamedTuple):
    path: str
    binding: BindingConfig
    source: TopicFilter | None
    target: TopicTemplate | None


def binding_problems(draft: Draft) -> Iterator[Found]:
    """Field paths, and what is wrong with them.

    Args:
        draft: the converted fields; a binding that already has a problem is left out.
    """
    routes: list[_Route] = []
    names: dict[str, str] = {}
    broken = draft.broken_bindings
    for index, binding in enumerate(draft.config.bindings):
        if index in broken:
            continue
        path = f"bindings[{index}]"
        first = names.setdefault(binding.name, path)
        if first != path:
            place = draft.marks.get(f"{first}.name", draft.marks[first])
            text = f"{quote(binding.name)} is already the name of {first} at {place}"
            yield f"{path}.name", f"{text}; names are unique"
        yield from _model_reference(draft, path, binding.model)
        yield from _binding_fields(path, binding)
        yield from discovery_problems(binding, path)
        yield from sparkplug_problems(draft.config, binding, path)
        source, found = _parse_filter(path, binding.from_)
        yield from found
        target, found = _parse_template(path, binding.to)
        yield from found
        routes.append(_Route(path, binding, source, target))
    own = _parse_own_topics(draft.config)
    tree = FilterTree()
    for number, route in enumerate(routes):
        if route.source is not None:
            tree.add(number, route.source)
    for route in routes:
        yield from _captured_names(route)
        yield from _loops(route, routes, tree)
        yield from _own_topics(route, own)


def _binding_fields(path: str, binding: BindingConfig) -> Iterator[Found]:
    if binding.timeout < 1_000_000 or binding.timeout > 3600 * _SECOND:
        yield f"{path}.timeout", "is outside what can work; expected 1ms to 1h"
    if binding.session in {"results", "req", "spb", "config"}:
        yield f"{path}.session", "is the name of a session that the daemon has; use another"
    yield from payload_problems(binding, path)
    yield from publish_problems(binding, path)
    if binding.retain and binding.to is None:
        yield f"{path}.retain", "needs a topic; replies are never retained; add `to:`"


def _model_reference(draft: Draft, path: str, reference: str) -> Iterator[Found]:
    name, at, release = reference.partition("@")
    here = f"{path}.model"
    if name in draft.config.pipelines:
        if at and release != str(draft.config.pipelines[name].release):
            number = draft.config.pipelines[name].release
            yield here, f"pipeline {quote(name)} is release {number}; expected {name}@{number}"
        return
    model = draft.config.models.get(name)
    if model is None:
        if {field_path("models", name), field_path("pipelines", name)} & draft.marks.keys():
            return  # it is there, with problems of its own
        known = sorted([*draft.config.models, *draft.config.pipelines])
        listed = ", ".join(known[:10]) or "none"
        near = did_you_mean(name, known)
        yield here, f"no model is named {quote(name)}{near}; models: {listed}"
        return
    is_number = release.isascii() and release.isdigit() and not release.startswith("0")
    if at and not is_number and release not in model.aliases:
        listed = ", ".join(sorted(model.aliases)) or "none"
        near = did_you_mean(release, sorted(model.aliases))
        text = f"{quote(release)} is neither a release number nor an alias of {quote(name)}"
        yield here, f"{text}{near}; aliases: {listed}"


def _parse_filter(path: str, text: str) -> tuple[TopicFilter | None, list[Found]]:
    try:
        return TopicFilter.parse(text, f"{path}.from"), []
    except FieldError as exc:
        return None, [(exc.path, exc.reason)]


def _parse_template(path: str, text: str | None) -> tuple[TopicTemplate | None, list[Found]]:
    if text is None:
        return None, []
    try:
        return TopicTemplate.parse(text, f"{path}.to"), []
    except FieldError as exc:
        return None, [(exc.path, exc.reason)]


def _captured_names(route: _Route) -> Iterator[Found]:
    if route.source is None or route.target is None:
        return
    known = route.source.names
    for name in route.target.names:
        if name not in known:
            near = did_you_mean(name, known)
            listed = ", ".join(f"{{{item}}}" for item in known) or "none"
            text = f"uses {{{name}}}, which `from` does not name{near}; named there: {listed}"
            yield f"{route.path}.to", text


def _loops(route: _Route, routes: list[_Route], tree: FilterTree) -> Iterator[Found]:
    if route.target is None:
        return
    for number in tree.reached_by(route.target)[:_MOST_LOOPS]:
        other = routes[number]
        if other.source is not None and meets(route.binding, other.binding):
            whose = "its own" if other is route else f"binding {quote(other.binding.name)}'s"
            text = (
                f"a result sent to {quote(route.target.source)} could arrive at {whose} `from` "
                f"{quote(other.source.source)} and be answered for ever; use another topic"
            )
            yield f"{route.path}.to", text


class _OwnTopic(NamedTuple):
    name: str
    as_filter: TopicFilter
    as_template: TopicTemplate


def _parse_own_topics(config: Config) -> list[_OwnTopic]:
    if config.mqtt is None:
        return []
    found = []
    below_base = [f"{base_topic(config)}/{name}" for name in OWN_TOPICS]
    for topic in (*below_base, *own_sparkplug_topics(config)):
        try:
            template = TopicTemplate.parse(_named_levels(topic))
            found.append(_OwnTopic(topic, TopicFilter.parse(topic), template))
        except FieldError:
            return []  # a bad base is reported where it stands
    return found


def _named_levels(topic: str) -> str:
    """A filter as a template that fills in each level that is free."""
    levels = topic.split("/")
    return "/".join(f"{{l{at}}}" if level == "+" else level for at, level in enumerate(levels))


def _own_topics(route: _Route, own: list[_OwnTopic]) -> Iterator[Found]:
    for topic in own:
        if route.source is not None and can_match(topic.as_template, route.source):
            text = f"{quote(route.source.source)} would receive what this daemon itself publishes "
            yield f"{route.path}.from", f"{text}to {topic.name}; make it narrower"
        if route.target is not None and can_match(route.target, topic.as_filter):
            text = f"results would mix with what this daemon publishes to {topic.name}"
            yield f"{route.path}.to", f"{text}; use another topic"
