"""Bindings as they run: each configuration entry with its filter, codec, output and template.

Decides at check time whether a binding can work, and at run time which bindings a topic belongs to.
A set is frozen and swapped as a whole; what is compiled for a release's manifest is remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edged.config.binding import BindingConfig
from edged.errors import FieldError, TooLargeError
from edged.manifest import ManifestOf
from edged.processing.codecs import Codec, RawCodec
from edged.protocol.broker_session import Message
from edged.protocol.mqtt import BaseTopics
from edged.protocol.sparkplug_births import Births, birth_filters
from edged.topics import TopicTemplate, can_match
from edged.transports.bindings.binding import MAX_REQUEST_BYTES, Binding, Part, Route
from edged.transports.bindings.discovery import birth_topic, device_topic

log = logging.getLogger("edged.mqtt")

_ROUTES_KEPT = 4096
"""Topics whose routes are remembered; a hostile publisher may invent any number of topics."""
_LONGEST_KEPT = 256
_LEAVING_KEPT = 1024
"""Bindings that left: one reload may move hundreds, and what comes for one that is forgotten is
lost. The oldest go, for a configuration may change for years."""


class BindingSet:
    """All bindings of one generation.

    Args:
        bindings: in the order they were written.
        topics: the daemon's own tree, which nothing may be published into from outside.
        max_request_bytes: larger payloads are refused (``limits.max_request``).
        leaving: those whose filters were given back; the broker may still send them some.
        readers: also those of other sessions, where there are some.
        beside: those that read from the same broker and answer by another way.
    """

    def __init__(
        self,
        bindings: Sequence[Binding],
        topics: BaseTopics,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        leaving: Sequence[Binding] = (),
        readers: Sequence[Binding] = (),
        *,
        beside: Sequence[Binding] = (),
    ) -> None:
        self.bindings = tuple(bindings)
        self.leaving = tuple(leaving)
        self.beside = tuple(beside)
        self.past: tuple[Binding, ...] = ()
        """Those that left earlier; they answer what nobody else does."""
        self._readers = tuple(readers) or self.bindings
        everybody = (*self.bindings, *self.leaving, *self._readers)
        self.has_groups = any(binding.filter.group for binding in everybody)
        self.topics = topics
        self.max_request_bytes = max_request_bytes
        self.births = Births()
        self._routes: dict[str, tuple[Route, ...]] = {}
        self._has_said_stray = False

    def is_shared(self, routes: Sequence[Route]) -> bool:
        """Whether a message of these bindings may come by a group."""
        return self.has_groups and any(route.binding.filter.group for route in routes)

    def admit(self, message: Message, binding: Binding) -> bytes:
        """The payload, if it is not over the limit; raises TooLargeError.

        What is Sparkplug's has its metrics by name; raises DecodeError where they are not known.
        Not the MQTT session's Maximum Packet Size: the broker would drop such messages silently.
        """
        payload = message.payload
        if len(payload) > self.max_request_bytes:
            raise TooLargeError(
                f"a payload of {len(payload)} bytes; the limit is {self.max_request_bytes} "
                "(limits.max_request)"
            )
        return self.births.named(message.topic, payload) if binding.has_births else payload

    def after(self, before: BindingSet) -> BindingSet:
        """This set, and of the one before it whoever leaves a group.

        What the broker has already given to us, no other member of the group gets.
        """
        kept = self.filters()
        found = {
            (binding.filter.mqtt, binding.name): binding
            for binding in (*before.leaving, *before.bindings)
            if binding.filter.group and binding.filter.mqtt not in kept
        }
        earlier = (*before.past, *before.leaving, *self.past)
        gone = {(one.filter.mqtt, one.name): one for one in earlier}
        past = tuple(one for key, one in gone.items() if key not in found)[-_LEAVING_KEPT:]
        if not found and not past:
            return self
        # Each once: one that is there twice would answer each message twice.
        found |= {(binding.filter.mqtt, binding.name): binding for binding in self.leaving}
        leaving = tuple(found.values())[-_LEAVING_KEPT:]
        made = self.with_bindings(self.bindings, leaving, self._readers)
        made.past = past
        return made

    def with_bindings(
        self,
        bindings: Sequence[Binding],
        leaving: Sequence[Binding] = (),
        readers: Sequence[Binding] = (),
    ) -> BindingSet:
        """Another set of the same house; arguments as for this class."""
        size = self.max_request_bytes
        made = BindingSet(bindings, self.topics, size, leaving, readers, beside=self.beside)
        made.past = self.past
        return made

    def with_others(self, others: Sequence[Binding]) -> BindingSet:
        """This set and those of another one."""
        if not others:
            return self
        return self.with_bindings((*self.bindings, *others))

    def left_by(self, others: Sequence[Binding]) -> BindingSet:
        """This set after others have left it; what the broker has for them here is answered."""
        if not others:
            return self
        kept = [one for one in self.bindings if one not in others]
        return self.with_bindings(kept, (*self.leaving, *others))

    def left_by_all(self) -> BindingSet:
        """This set without those that leave."""
        return self.with_bindings(self.bindings)

    def part(self, session: str | None) -> BindingSet:
        """What belongs to one session; it knows the others' topics."""
        own = [binding for binding in self.bindings if binding.config.session == session]
        left = [binding for binding in self.leaving if binding.config.session == session]
        made = self.with_bindings(own, left, self.bindings)
        made.past = tuple(one for one in self.past if one.config.session == session)
        return made

    def names(self) -> dict[str, list[str]]:
        """By MQTT filter, who reads it."""
        found: dict[str, list[str]] = {}
        for binding in self.bindings:
            for one in binding.filters:
                found.setdefault(one.mqtt, []).append(binding.name)
        return found

    def filters(self) -> dict[str, int]:
        """What to subscribe to: MQTT filters and the highest QoS wanted for each."""
        found: dict[str, int] = {}
        for binding in self.bindings:
            for one in binding.filters:
                found[one.mqtt] = max(found.get(one.mqtt, 0), binding.config.qos)
                for birth in birth_filters(one.plain) if binding.has_births else ():
                    found.setdefault(birth, 0)
        for prefix in self.discovery_delays():
            found.setdefault(birth_topic(prefix), 0)
        return found

    def discovery_delays(self) -> dict[str, float]:
        """The prefixes of Home Assistants, with the longest delay of each, seconds."""
        found: dict[str, float] = {}
        for binding in self.bindings:
            one = binding.config.discovery
            if one is not None:
                found[one.prefix] = max(found.get(one.prefix, 0.0), one.delay.seconds)
        return found

    def routes(self, topic: str, subscriptions: tuple[int, ...] = ()) -> tuple[Route, ...]:
        """The bindings that a message belongs to.

        Args:
            topic: what their filters must match.
            subscriptions: by which the broker sent this copy. Where filters overlap it may send one
                copy for each (MQTT 5.0, 3.3.4), and every binding must run once, not once a copy.
        """
        routes = self._routes.get(topic) or self._matching(topic)
        if len(routes) < 2 or not subscriptions:
            return routes
        # None of ours: a subscription that is being given back; better twice than not at all.
        return tuple(r for r in routes if r.subscription in subscriptions) or routes

    def _matching(self, topic: str) -> tuple[Route, ...]:
        known = self._routes.get(topic)
        if known is not None:
            return known
        # What the broker kept here for a binding that another session has now is answered too.
        found = _routes_of(topic, (*self.bindings, *self.leaving))
        found = found or _routes_of(topic, self._readers) or _routes_of(topic, self.past)
        if len(topic) > _LONGEST_KEPT:
            return tuple(found)
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        return self._routes.setdefault(topic, tuple(found))

    def say_stray(self, topic: str) -> None:
        """Log a message for no binding, kept by the broker for one that is gone; once a set."""
        if not self._has_said_stray:
            self._has_said_stray = True
            log.warning(
                'a message on "%s" belongs to no binding any more: it is acknowledged without a '
                "result, and counted as unmatched with those that follow",
                topic[:128],
            )

    def inherit(self, before: BindingSet) -> None:
        """Go on with what the bindings of the same name remember."""
        known = {binding.name: binding for binding in before.bindings}
        for binding in self.bindings:
            if binding.name in known:
                binding.inherit(known[binding.name])

    def is_input(self, topic: str) -> bool:
        """Whether some binding reads this topic; publishing a result to it would be a loop."""
        readers = (*self._readers, *self.beside)
        return any(one.match(topic) is not None for binding in readers for one in binding.filters)


def _routes_of(topic: str, bindings: Sequence[Binding]) -> list[Route]:
    found = []
    for binding in bindings:
        levels = binding.filter.match(topic)
        if levels is not None:
            found.append(_route(binding, topic, levels))
        for index, part in enumerate(binding.parts):
            levels = part.filter.match(topic)
            if levels is not None:
                key = _joined_key(part, levels)
                found.append(Route(binding, None, key=key, part=index))
    return found


def _route(binding: Binding, topic: str, levels: dict[str, str]) -> Route:
    target, problem, key, about, device, shown = None, "", topic, topic, "", ""
    try:
        if binding.template is not None:
            target = binding.template.render(levels)
        if binding.key is not None:
            key = binding.key.render(levels)
        if binding.about is not None:
            about = binding.about.render(levels)
        if binding.device is not None:
            device = binding.device.render(levels)
        if binding.shown is not None:
            shown = binding.shown.render(levels)
    except FieldError as exc:
        target, problem, key = None, exc.message, ""
    joined = tuple(_joined_key(part, levels) for part in binding.parts)
    return Route(
        binding, target, problem, key, joined=joined, about=about, device=device, shown=shown,
        levels=levels,
    )  # fmt: skip


def _joined_key(part: Part, levels: dict[str, str]) -> str:
    """The levels by which a joined topic goes with a message; no level has a slash."""
    return "/".join(levels.get(name, "") for name in part.filter.names)


def prepare_bindings(
    configs: Sequence[BindingConfig],
    of: ManifestOf,
    topics: BaseTopics,
    max_request_bytes: int = MAX_REQUEST_BYTES,
) -> BindingSet:
    """Make a set, or say why it cannot work.

    Args:
        configs: as written.
        of: the manifests the bindings will be served by.
        topics: the daemon's own tree.
        max_request_bytes: ``limits.max_request``.

    Raises:
        FieldError: with the path ``bindings[i]…``.
    """
    bindings = []
    for index, config in enumerate(configs):
        path = f"bindings[{index}]"
        binding = Binding(config, path, max_request_bytes)
        manifest = of(binding.model, binding.release)
        if manifest is None:
            raise FieldError(f"{path}.model", f'no release answers for "{config.model}" yet')
        try:
            _check_size(binding.compiled(manifest).codecs.choose(None), max_request_bytes)
        except FieldError as exc:
            raise FieldError(f"{path}.{exc.path}", exc.reason) from exc
        bindings.append(binding)
    _check_loops(bindings, topics)
    return BindingSet(bindings, topics, max_request_bytes)


def _check_size(codec: Codec, max_request_bytes: int) -> None:
    least = codec.row_bytes if isinstance(codec, RawCodec) else 0
    if least > max_request_bytes:
        text = f"one row has {least} bytes, and limits.max_request is {max_request_bytes}"
        raise FieldError("codec", f"{text}: every message would be refused; raise it")


def with_waiting(prepared: BindingSet, configs: Sequence[BindingConfig]) -> BindingSet:
    """Add the bindings that cannot serve yet, so that their messages are not lost.

    Left out, their filters would be given back, and what the broker kept for them be acknowledged
    as nobody's: lost without a word. So they wait for their model, and then end as dead letters.

    Args:
        prepared: those that can serve.
        configs: all that were written.
    """
    known = {binding.name for binding in prepared.bindings}
    bindings = list(prepared.bindings)
    for index, config in enumerate(configs):
        if config.name in known:
            continue
        try:
            binding = Binding(config, f"bindings[{index}]", prepared.max_request_bytes)
            _check_loops([*bindings, binding], prepared.topics)
        except FieldError:
            continue  # its own words are at fault; no model will help it
        bindings.append(binding)
    return prepared.with_bindings(bindings, prepared.leaving)


def _check_discovery(binding: Binding, path: str, bindings: list[Binding]) -> None:
    if binding.config.discovery is None:
        return
    told = TopicTemplate.parse(device_topic(binding.config.discovery.prefix, "b", "d"), path)
    for other in bindings:
        if can_match(told, other.filter):
            text = f'"{other.filter.source}" of binding "{other.name}" would read what Home '
            raise FieldError(f"{path}.discovery", f"{text}Assistant is told")


def _check_loops(bindings: list[Binding], topics: BaseTopics) -> None:
    for index, binding in enumerate(bindings):
        _check_discovery(binding, f"bindings[{index}]", bindings)
        if binding.template is None:
            continue
        path = f"bindings[{index}].to"
        if topics.owns(binding.template.source):
            raise FieldError(path, f'"{binding.template.source}" is one of our own topics')
        for other in bindings:
            for read in other.filters:
                if can_match(binding.template, read):
                    raise FieldError(
                        path,
                        f'"{binding.template.source}" can match `from` of binding "{other.name}" '
                        f'("{read.source}"): results would come back as requests',
                    )
