"""One binding as it runs: its filter, codecs, writer and template, fitted to releases.

Decides at check time whether it can work; what is made for a release's manifest is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edged.config.binding import BindingConfig
from edged.config.keyed import JoinConfig
from edged.config.schema import LimitsConfig
from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.entities import entities_of
from edged.processing.readings import Reading, readings_of
from edged.protocol.mqtt import BaseTopics, subscription_id
from edged.topics import TopicFilter, TopicTemplate
from edged.transports.bindings.answers import AnswerWriter
from edged.transports.bindings.discovery import device_message, device_topic
from edged.transports.bindings.fit import JoinFit, WindowFit, fit_join, fit_window
from edged.transports.bindings.payload_codecs import PayloadCodecs, load_parser
from edged.transports.bindings.profiles import Profiles
from edged.transports.bindings.suppression import Suppression, Watch

MAX_REQUEST_BYTES = int(LimitsConfig().max_request)
"""The default of ``limits.max_request``."""
_RELEASES_KEPT = 8


@dataclass(frozen=True, slots=True)
class Compiled:
    """A binding fitted to one release."""

    manifest: Manifest
    codecs: PayloadCodecs
    writer: AnswerWriter
    entities: dict[str, dict[str, Any]]
    window: WindowFit | None = None
    join: JoinFit | None = None
    readings: tuple[Reading, ...] = ()


class Part:
    """A topic that a binding joins.

    Args:
        config: as written.
        path: where it stands, for errors.

    Raises:
        FieldError: a bad filter.
    """

    def __init__(self, config: JoinConfig, path: str) -> None:
        self.filter = TopicFilter.parse(config.from_, f"{path}.from")
        self.subscription = subscription_id(self.filter.mqtt)


class Binding:
    """One binding; immutable but for what it remembers.

    Args:
        config: as written.
        path: where it stands, for errors.
        max_request_bytes: of a payload, also of an unpacked one.

    Raises:
        FieldError: a bad filter, template or model reference.
    """

    def __init__(
        self, config: BindingConfig, path: str, max_request_bytes: int = MAX_REQUEST_BYTES
    ) -> None:
        self.config = config
        self._max_request_bytes = max_request_bytes
        try:
            self._parser = load_parser(config)
        except FieldError as exc:
            raise FieldError(f"{path}.{exc.path}", exc.reason) from exc
        self.name = config.name
        self.filter = TopicFilter.parse(config.from_, f"{path}.from")
        self.subscription = subscription_id(self.filter.mqtt)
        self.template = None if config.to is None else TopicTemplate.parse(config.to, f"{path}.to")
        self.model, _, release = config.model.partition("@")
        self.release: int | str | None = int(release) if release.isdecimal() else release or None
        self.origin = f"mqtt:{config.name}"
        self.key = _key_of(config, path)
        self.parts = tuple(
            Part(one, f"{path}.join[{index}]") for index, one in enumerate(config.join)
        )
        self.filters = (self.filter, *(part.filter for part in self.parts))
        """All that it reads."""
        self.has_births = config.codec == "sparkplug" and config.compression == "none"
        """Whether its metrics may go by aliases."""
        self.gathers = config.window is not None or bool(config.join)
        """Whether rows of earlier messages are part of an answer."""
        self._compiled: dict[int, Compiled] = {}
        publish = config.publish
        is_choosy = publish is not None and publish.when != "always"
        self.suppression = Suppression(publish) if publish is not None and is_choosy else None
        self.about: TopicTemplate | None = None
        if publish is not None and publish.key is not None:
            self.about = TopicTemplate.parse(publish.key, f"{path}.publish.key")
        self._check_levels(self.template, f"{path}.to")
        self._check_levels(self.about, f"{path}.publish.key")
        self.device: TopicTemplate | None = None
        if config.discovery is not None:
            where = f"{path}.discovery.device"
            self.device = TopicTemplate.parse(config.discovery.device, where)
            self._check_levels(self.device, where)
        self.shown: TopicTemplate | None = None
        """As which device of Sparkplug its answers are shown."""
        if config.sparkplug is not None:
            where = f"{path}.sparkplug.device"
            self.shown = TopicTemplate.parse(config.sparkplug.device, where)
            self._check_levels(self.shown, where)

    def _check_levels(self, template: TopicTemplate | None, path: str) -> None:
        for name in template.names if template is not None else ():
            if name not in self.filter.names:
                known = ", ".join(self.filter.names) or "none"
                raise FieldError(
                    path, f"{{{name}}} is not a level of `from`; its named levels: {known}"
                )

    def inherit(self, before: Binding) -> None:
        """Go on with what is remembered of answers, where they mean the same."""
        now, then = self.config, before.config
        if (now.publish, now.output, now.model) == (then.publish, then.output, then.model):
            self.suppression = before.suppression

    def tell(self, profiles: Profiles, route: Route, compiled: Compiled, own: BaseTopics) -> None:
        """Tell Home Assistant of the device that an answer is about."""
        config, target = self.config.discovery, route.target
        if config is None or not route.device or target is None:
            return
        profiles.discovery.tell(
            device_topic(config.prefix, self.name, route.device),
            (compiled.manifest, target),
            lambda: device_message(
                self.name, compiled.manifest.name, route.device, target, compiled.entities, own
            ),
        )

    def show(
        self, profiles: Profiles, route: Route, compiled: Compiled | None, watch: Watch
    ) -> None:
        """Show an answer as Sparkplug; of several rows the last is the state."""
        node = profiles.node
        if node is not None and compiled is not None and route.shown and watch.rows:
            node.tell(route.shown, self.name, compiled.readings, watch.rows[-1])

    def compiled(self, manifest: Manifest) -> Compiled:
        """Codec and output for a release.

        Raises:
            FieldError: they cannot fit it.
        """
        known = self._compiled.get(manifest.release)
        if known is not None and known.manifest is manifest:
            return known
        config = self.config
        if config.stream and not manifest.makes_texts:
            text = f'model "{manifest.name}" makes no texts, and only those come in pieces'
            raise FieldError("stream", f"{text}; remove it")
        wants_rows = self.suppression is not None or self.shown is not None
        writer = AnswerWriter(config.output, manifest, wants_rows=wants_rows)
        readings = readings_of(config.output, manifest) if self.shown is not None else ()
        window, join = None, None
        if config.window is not None:
            codecs, window = fit_window(config, manifest, self._parser, self._max_request_bytes)
        elif config.join:
            codecs, join = fit_join(config, manifest, self._parser, self._max_request_bytes)
        else:
            codecs = PayloadCodecs(config, manifest, self._parser, self._max_request_bytes)
        entities = entities_of(config.output, manifest) if config.discovery is not None else {}
        made = Compiled(manifest, codecs, writer, entities, window, join, readings)
        if len(self._compiled) >= _RELEASES_KEPT:
            self._compiled.clear()
        self._compiled[manifest.release] = made
        return made


@dataclass(frozen=True, slots=True)
class Route:
    """A binding that a topic belongs to, and where its results go.

    Args:
        target: the filled-in ``to``, or None.
        problem: why ``to`` could not be filled in for this topic.
        key: what it belongs to, where the binding goes by keys.
        part: which of the joined topics it is on; -1 = it is on ``from``.
        joined: on ``from``, the keys of what goes with it, by joined topic.
        about: what its answers are told apart by, for ``publish``.
        device: which device Home Assistant is told of.
        shown: as which device of Sparkplug its answers are shown.
        levels: the named levels of the topic.
    """

    binding: Binding
    target: str | None
    problem: str = ""
    key: str = ""
    part: int = -1
    joined: tuple[str, ...] = ()
    about: str = ""
    device: str = ""
    shown: str = ""
    levels: Mapping[str, str] = field(default_factory=dict)

    def asker(self, correlation: bytes | None) -> Mapping[str, str]:
        """What a message says of who asks: its levels, and its correlation data as the id."""
        if not correlation or "id" in self.levels:
            return self.levels
        return {**self.levels, "id": correlation.hex()}

    @property
    def subscription(self) -> int:
        """By which its messages come."""
        if self.part >= 0:
            return self.binding.parts[self.part].subscription
        return self.binding.subscription


def _key_of(config: BindingConfig, path: str) -> TopicTemplate | None:
    """What a message's key is made of; None = no key, or its topic."""
    for name, section in (("sequence", config.sequence), ("window", config.window)):
        if section is not None and section.key is not None:
            return TopicTemplate.parse(section.key, f"{path}.{name}.key")
    return None
