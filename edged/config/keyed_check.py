"""What is wrong with bindings that remember, from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.problems import did_you_mean, field_path, quote
from edged.config.schema import Config
from edged.errors import FieldError
from edged.topics import TopicFilter, TopicTemplate


def keyed_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    for index, binding in enumerate(config.bindings):
        if binding is not None:
            yield from _sequence(config, f"bindings[{index}]", binding)


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


def key_problems(path: str, key: str, source: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a key, given the filter whose levels it uses."""
    try:
        names = TopicTemplate.parse(key, path).names
    except FieldError as exc:
        yield exc.path, exc.reason
        return
    try:
        known = TopicFilter.parse(source).names
    except FieldError:
        return  # said where it stands
    if not names:
        yield path, "is the same for every message; name a level of `from`, as {device}"
    for name in names:
        if name not in known:
            listed = ", ".join(f"{{{one}}}" for one in known) or "none"
            text = f"uses {{{name}}}, which `from` does not name{did_you_mean(name, known)}"
            yield path, f"{text}; named there: {listed}"
