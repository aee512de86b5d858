"""What is wrong with bindings that remember, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.identity import base_topic
from edged.config.problems import did_you_mean, field_path, quote
from edged.config.schema import Config
from edged.errors import FieldError
from edged.topics import TopicFilter, TopicTemplate, can_match

_LONGEST = 24 * 3600 * 10**9
_LONGEST_AGE = 30 * _LONGEST


def keyed_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for index, binding in enumerate(config.bindings):
        if binding is not None:
            path = f"bindings[{index}]"
            yield from _sequence(config, path, binding)
            yield from _window(path, binding)
            yield from _join(config, path, binding)


def _sequence(config: Config, path: str, binding: BindingConfig) -> Iterator[tuple[str, str]]:
    name = binding.model.partition("@")[0]
    model = config.models.get(name)
    keeps_state = model is not None and model.sequence is not None
    if binding.sequence is None:
        if keeps_state:
            text = f"{quote(name)} keeps state (sequence), and messages have none yet; say which "
            yield f"{path}.model", f"{text}belong together: sequence: {{key: {{device}}}}"
        return
    if (model is not None or name in config.pipelines) and not keeps_state:
        text = f"{quote(name)} keeps nothing from one message to the next; remove it, or write"
        yield f"{path}.sequence", f"{text} {field_path('models', name)}.sequence"
    if binding.stream:
        yield f"{path}.stream", "goes with texts, and sequence with models that keep state"
    yield from key_problems(f"{path}.sequence.key", binding.sequence.key, binding.from_)


def _window(path: str, binding: BindingConfig) -> Iterator[tuple[str, str]]:
    window = binding.window
    if window is None:
        return
    for other in ("sequence", "stream", "join"):
        if getattr(binding, other):
            yield f"{path}.{other}", "and window exclude each other; use two bindings"
    if binding.codec == "tensor":
        yield f"{path}.codec", "carries whole inputs, and window puts rows together; write raw"
    if window.hop is not None and window.hop > window.rows:
        text = f"is more than the window's {window.rows} rows, so that rows would be left out"
        yield f"{path}.window.hop", f"{text}; lower it"
    if window.gap is not None and not 10**6 <= window.gap <= _LONGEST:
        yield f"{path}.window.gap", "is outside what can work; expected 1ms to 24h"
    if window.max_size < 4096:
        yield f"{path}.window.max_size", "would hold next to nothing; expected at least 4KiB"
    if window.key is not None:
        yield from key_problems(f"{path}.window.key", window.key, binding.from_)


def _join(config: Config, path: str, binding: BindingConfig) -> Iterator[tuple[str, str]]:
    if not binding.join:
        return
    for other in ("sequence", "stream"):
        if getattr(binding, other):
            yield f"{path}.{other}", "and join exclude each other; use two bindings"
    if not binding.fields:
        yield f"{path}.join", "needs fields on both sides; say which columns `from` gives"
    if binding.codec in {"raw", "image", "tensor"}:
        yield f"{path}.codec", f"has no columns by name to join ({binding.codec})"
    names = _names(binding.from_)
    for index, part in enumerate(binding.join):
        here = f"{path}.join[{index}]"
        if part.max_age is not None and not 10**6 <= part.max_age <= _LONGEST_AGE:
            yield f"{here}.max_age", "is outside what can work; expected 1ms to 720h"
        try:
            source = TopicFilter.parse(part.from_)
        except FieldError as exc:
            yield f"{here}.from", exc.reason
            continue
        for name in source.names:
            if names is not None and name not in names:
                listed = ", ".join(f"{{{one}}}" for one in names) or "none"
                text = f"names {{{name}}}, which `from` does not{did_you_mean(name, names)}"
                yield f"{here}.from", f"{text}; named there: {listed}; write + for any level"
        yield from _written_to(config, here, source)


def _written_to(config: Config, path: str, source: TopicFilter) -> Iterator[tuple[str, str]]:
    base = base_topic(config)
    if config.mqtt is not None and _reaches(f"{base}/info", source):
        text = f"{quote(source.source)} would receive what this daemon publishes below {base}"
        yield f"{path}.from", f"{text}; make it narrower"
    for other in config.bindings:
        if other is not None and other.to is not None and _reaches(other.to, source):
            text = f"would receive results of binding {quote(other.name)} ({quote(other.to)})"
            yield f"{path}.from", f"{text}; use another topic"


def _reaches(to: str, source: TopicFilter) -> bool:
    try:
        return can_match(TopicTemplate.parse(to), source)
    except FieldError:
        return False  # said where it stands


def _names(source: str) -> tuple[str, ...] | None:
    try:
        return TopicFilter.parse(source).names
    except FieldError:
        return None  # said where it stands


def key_problems(path: str, key: str, source: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a key, given the filter whose levels it uses."""
    try:
        names = TopicTemplate.parse(key, path).names
    except FieldError as exc:
        yield exc.path, exc.reason
        return
    known = _names(source)
    if known is None:
        return
    if not names:
        yield path, "is the same for every message; name a level of `from`, as {device}"
    for name in names:
        if name not in known:
            listed = ", ".join(f"{{{one}}}" for one in known) or "none"
            text = f"uses {{{name}}}, which `from` does not name{did_you_mean(name, known)}"
            yield path, f"{text}; named there: {listed}"
