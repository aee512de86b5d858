"""Whether what a binding says of its answers goes together."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig
from edged.config.publish import PublishConfig
from edged.errors import FieldError
from edged.topics import TopicFilter, TopicTemplate

_NEEDS = {"above": "threshold", "every": "every"}
_BELONGS = {"band": "dead_band", "threshold": "above", "every": "every"}
_LEAST_NS, _MOST_NS = 10**6, 30 * 24 * 3600 * 10**9


def publish_problems(binding: BindingConfig, path: str) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        binding: as written.
        path: of the binding.
    """
    publish = binding.publish
    if publish is None:
        return
    here = f"{path}.publish"
    yield from _words(publish, here)
    if publish.when == "always":
        return
    if binding.to is None:
        yield here, "is about messages to a topic, and replies are always given; add `to:`"
    if binding.stream:
        yield here, "cannot leave out pieces of a text; remove it, or `stream`"
    if publish.key is not None:
        yield from key_problems(publish.key, binding.from_, f"{here}.key")


def _words(publish: PublishConfig, here: str) -> Iterator[tuple[str, str]]:
    needed = _NEEDS.get(publish.when)
    if needed is not None and getattr(publish, needed) is None:
        yield f"{here}.when", f"{publish.when} needs `{needed}`; add it"
    for name, owner in _BELONGS.items():
        if getattr(publish, name) and publish.when != owner:
            yield f"{here}.{name}", f"belongs to `when: {owner}`, not to {publish.when}; remove it"
    if publish.field is not None and publish.when in {"always", "every"}:
        yield f"{here}.field", f"is not looked at by `when: {publish.when}`; remove it"
    for name in ("every", "silence"):
        value = getattr(publish, name)
        if value is not None and not _LEAST_NS <= value <= _MOST_NS:
            yield f"{here}.{name}", "is outside what can work; expected 1ms to 720h"


def key_problems(key: str, source: str, here: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a text made of levels of `from`, at ``here``."""
    try:
        names = TopicTemplate.parse(key, here).names
        known = TopicFilter.parse(source).names
    except FieldError as exc:
        if exc.path == here:
            yield exc.path, exc.reason
        return  # a bad `from` is reported where it stands
    for name in names:
        if name not in known:
            listed = ", ".join(f"{{{one}}}" for one in known) or "none"
            yield here, f"uses {{{name}}}, which `from` does not name; named there: {listed}"
