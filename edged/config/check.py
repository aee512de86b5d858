"""Checks that need more than one field: references, loops, and settings that exclude each other.

Decides from values alone; which files exist is asked later (``snapshot.check_files``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from operator import attrgetter
from typing import get_args

from edged.config.access_check import access_problems
from edged.config.binding_check import Found, binding_problems
from edged.config.broker import login_problems, outbox_problems
from edged.config.broker_lines import brokers_problems
from edged.config.cache_check import cache_problems
from edged.config.convert import Draft
from edged.config.desired import desired_problems
from edged.config.engines import engines_problems
from edged.config.feed_check import feed_problems
from edged.config.generation_check import generation_problems
from edged.config.identity import base_topic
from edged.config.inbox import inbox_problems
from edged.config.keyed_check import keyed_problems
from edged.config.listen_check import listen_problems
from edged.config.mqtt import MqttConfig
from edged.config.pipeline_check import pipeline_problems
from edged.config.preference import BuiltInRuntime
from edged.config.problems import (
    Problem,
    field_path,
    parent_path,
    problem_at,
)
from edged.config.rollout_check import rollout_problems
from edged.config.schema import Config
from edged.config.sequence_check import sequence_problems
from edged.config.sources import source_problems
from edged.config.trust_check import trust_problems
from edged.errors import FieldError
from edged.specs import Duration
from edged.system.breath import breathe
from edged.topics import check_topic

_SECOND = 10**9
_RANGES: tuple[tuple[str, str, int, int, str], ...] = (
    ("reload.settle", "reload.settle", 1_000_000, 10 * _SECOND, "1ms to 10s"),
    ("reload.poll", "reload.poll", 100_000_000, 3600 * _SECOND, "100ms to 1h"),
    ("reload.confirm.window", "reload.confirm.window", 0, 3600 * _SECOND, "0 to 1h"),
    ("limits.inline_threshold", "limits.inline_threshold", 0, _SECOND, "0 to 1s"),
    ("scheduling.starvation", "scheduling.starvation", 1_000_000, 3600 * _SECOND, "1ms to 1h"),
    ("limits.busy_wait", "limits.busy_wait", 0, 1_000_000, "0 to 1ms"),
)
_MQTT_RANGES: tuple[tuple[str, int, int, str], ...] = (
    # Four bytes of seconds; the highest value means for ever, so one less.
    ("session_expiry", 0, (2**32 - 2) * _SECOND, "0 to 4294967294s"),
)


def check(draft: Draft) -> list[Problem]:
    """Every problem between fields, at the offending value's place.

    Args:
        draft: the converted fields; a section that already has a problem gets no second one here,
            because its defaults stand in for what was written.
    """
    troubled = [problem.path for problem in draft.problems]
    found: list[Found] = []
    for problems in (
        _mqtt(draft),
        brokers_problems(draft.config, draft.broken_bindings),
        listen_problems(draft.config.listen),
        access_problems(draft.config),
        trust_problems(draft.config),
        inbox_problems(draft.config),
        _ranges(draft.config),
        _scheduling(draft.config),
        _models(draft.config),
        cache_problems(draft.config),
        engines_problems(draft.config.engines),
        pipeline_problems(draft.config, draft.marks),
        sequence_problems(draft.config),
        keyed_problems(draft.config),
        feed_problems(draft.config),
        rollout_problems(draft.config),
        generation_problems(draft.config),
        source_problems(draft.config.sources, draft.config.models),
        binding_problems(draft),
    ):
        found += problems
        breathe()
    return [
        _located(draft, path, text)
        for path, text in found
        if not any(_is_entangled(path, other) for other in troubled)
    ]


def _located(draft: Draft, path: str, message: str) -> Problem:
    place = path
    while place and place not in draft.marks:
        place = parent_path(place)
    return problem_at(draft.marks[place], path, message)


def _is_entangled(path: str, other: str) -> bool:
    """Whether a problem at ``other`` may be the cause of one at ``path``.

    Sections are judged as a whole; in models, pipelines, bindings and sources, only a field and
    what it holds.
    """
    if not other.startswith(("models", "bindings", "pipelines", "sources")):
        return re.split(r"[.\[]", path)[0] == re.split(r"[.\[]", other)[0]
    return (path + ".").startswith(other + ".") or (other + ".").startswith(path + ".")


def _ranges(config: Config) -> Iterator[Found]:
    for path, name, low, high, words in _RANGES:
        value: Duration = attrgetter(name)(config)
        if not low <= value <= high:
            yield path, f"is outside what can work; expected {words}"
    for field in ("budget", "cuda"):
        size = getattr(config.memory, field)
        if size is not None and size < 1 << 20:
            yield f"memory.{field}", "would hold no model; expected at least 1MiB"
    if config.limits.max_request < 1024:
        yield "limits.max_request", "would refuse every request; expected at least 1KiB"


def _scheduling(config: Config) -> Iterator[Found]:
    scheduling = config.scheduling
    reserved = scheduling.reserved.high + scheduling.reserved.normal
    if scheduling.slots and reserved >= scheduling.slots:
        text = f"leave no slot of {scheduling.slots} to the classes below"
        yield "scheduling.reserved", f"{text}; reserve fewer, or raise scheduling.slots"


def _mqtt(draft: Draft) -> Iterator[Found]:
    config = draft.config
    mqtt = config.mqtt
    if mqtt is None:
        if config.bindings and "mqtt" not in draft.marks:
            yield "bindings", 'need a broker; add "mqtt:" with at least "host: NAME"'
        elif config.bindings:
            yield "mqtt", "is null, but there are bindings; write at least `host: NAME` below it"
        return
    yield from _mqtt_fields(mqtt)
    if mqtt.desired is not None:
        signed = config.trust.require_signatures
        yield from desired_problems(mqtt.desired, require_signatures=signed)
    base = base_topic(config)
    try:
        check_topic(base, "mqtt.base")
        if "{" in base or "}" in base:
            yield "mqtt.base", "is plain text; it has no {named} levels"
    except FieldError as exc:
        yield exc.path, exc.reason


def _mqtt_fields(mqtt: MqttConfig) -> Iterator[Found]:
    for field, low, high, words in _MQTT_RANGES:
        if not low <= getattr(mqtt, field) <= high:
            yield f"mqtt.{field}", f"is outside what MQTT can say; expected {words}"
    yield from login_problems(mqtt, "mqtt")
    for path, broker in (("mqtt", mqtt), ("mqtt.results", mqtt.results)):
        if mqtt.client == "paho" and broker is not None and broker.websocket is not None:
            yield f"{path}.websocket", "needs `mqtt.client: native`, which is the default"
    yield from outbox_problems(mqtt.outbox)
    if mqtt.report and not _SECOND <= mqtt.report <= 24 * 3600 * _SECOND:
        yield "mqtt.report", "is outside what can work; expected 1s to 24h, or 0"
    if len(set(mqtt.questions)) < len(mqtt.questions):
        yield "mqtt.questions", "lists a word twice; remove one"
    if mqtt.results is not None:
        yield from login_problems(mqtt.results, "mqtt.results")


def _models(config: Config) -> Iterator[Found]:
    for name, model in config.models.items():
        breathe()
        path = field_path("models", name)
        if isinstance(model.bundle, tuple) and not model.bundle:
            yield f"{path}.bundle", "lists no file; name at least one"
        if isinstance(model.serve, int) and model.serve < 1:
            yield f"{path}.serve", 'releases count from 1; expected one, or "newest"'
        for alias, release in model.aliases.items():
            if release < 1:
                yield f"{path}.aliases.{alias}", "releases count from 1"
            if alias == "newest":
                yield f"{path}.aliases.{alias}", '"newest" always means the highest ready release'
        if not model.runtime:
            known = ", ".join(get_args(BuiltInRuntime))
            yield f"{path}.runtime", f"lists no runtime; expected [{known}]"
        if not isinstance(model.runtime, str) and len(set(model.runtime)) < len(model.runtime):
            yield f"{path}.runtime", "lists a runtime twice; remove one"
        if "auto" in model.runtime and model.runtime != "auto":
            yield (
                f"{path}.runtime",
                "auto is a choice among all, and no runtime; write auto alone",
            )
        if model.queue.max_rows < model.batching.max_batch:
            text = f"is smaller than batching.max_batch ({model.batching.max_batch})"
            yield f"{path}.queue.max_rows", f"{text}, so a full batch could never wait; raise it"
        if model.memory.pinned and model.memory.load == "lazy":
            text = "a pinned model is loaded at the start and stays; remove one of the two"
            yield f"{path}.memory.load", text
        if model.batching.max_queue_delay > 60 * _SECOND:
            yield f"{path}.batching.max_queue_delay", "is longer than anybody waits; at most 1min"
