"""Lines: from which broker to which one the messages of bindings go, and what each line is told.

Decides which lines a configuration has, and reads each as a configuration of its own, with one
broker and one for results, so that whoever serves a line need not know of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from msgspec import structs

from edged.config.binding import BindingConfig
from edged.config.broker import BrokerConfig, ResultsConfig, broker_files, login_problems
from edged.config.brokers import MAIN
from edged.config.identity import base_topic, client_id
from edged.config.mqtt import MqttConfig
from edged.config.problems import did_you_mean, field_path, quote
from edged.config.schema import Config
from edged.config.section import Path

_LONGEST_ID = 64
_TWICE = 2
"""QoS 2."""
_MOST_NS = (2**32 - 2) * 10**9


class Line(NamedTuple):
    """A way of messages.

    Args:
        broker: which one brings them.
        results: which one gets the answers; empty = as the section of ``broker`` says.
        by_disk: they go by the outbox, though it is the same broker.
    """

    broker: str = MAIN
    results: str = ""
    by_disk: bool = False

    @property
    def name(self) -> str:
        """For people and folders; no two are the same, for a broker's name has no blank."""
        way = f"{self.broker} to {self.results}" if self.results else self.broker
        return f"{way} by disk" if self.by_disk else way

    @property
    def speaks(self) -> bool:
        """Whether it says on its broker how the daemon is; one of them does."""
        return not self.results


def line_of(config: Config, binding: BindingConfig) -> Line:
    """The line of a binding."""
    broker, results = binding.broker or MAIN, binding.results or ""
    if binding.sent_qos < _TWICE or binding.to is None:
        return Line(broker, results)
    # QoS 2 needs a session that the broker forgets with what it did not complete: that of results.
    has_way = not results and broker == MAIN and config.mqtt and config.mqtt.results
    results = results or ("" if has_way else broker)
    return Line(broker, results, results == broker)


def lines_of(config: Config) -> list[Line]:
    """All lines; the first is that of ``mqtt`` as it always was."""
    found = dict.fromkeys([Line()])
    for binding in config.bindings:
        line = line_of(config, binding)
        found |= dict.fromkeys([Line(line.broker), line])
    return list(found)


def config_of(config: Config, line: Line) -> Config:
    """What a line is told: its broker as ``mqtt``, and its bindings."""
    bindings = tuple(one for one in config.bindings if line_of(config, one) == line)
    mqtt = config.mqtt
    if mqtt is None or line == Line():
        return structs.replace(config, bindings=bindings)
    source = mqtt if line.broker == MAIN else config.brokers[line.broker]
    suffix = "" if line.broker == MAIN else f"-{line.broker}"
    own = source.client_id if line.broker != MAIN else None
    name = own or f"{client_id(config)[: _LONGEST_ID - len(suffix)]}{suffix}"
    if line.results:
        behind = f"-to-{line.results}{'-2' if line.by_disk else ''}"
        name = f"{name[: _LONGEST_ID - len(behind)]}{behind}"
    made = MqttConfig(
        **_words(source),
        client=mqtt.client, client_id=name, session_expiry=source.session_expiry,
        base=base_topic(config), step_back=mqtt.step_back, outbox=mqtt.outbox,
        results=_results(config, line),
    )  # fmt: skip
    # What is published of answers that no message asked for goes out on the first line alone.
    models = {name: structs.replace(one, publish=None) for name, one in config.models.items()}
    return structs.replace(config, mqtt=made, bindings=bindings, models=models)


def _results(config: Config, line: Line) -> ResultsConfig | None:
    if not line.results or (line.results == line.broker and not line.by_disk):
        return None
    target = config.mqtt if line.results == MAIN else config.brokers[line.results]
    return ResultsConfig(**_words(target)) if target is not None else None


def _words(broker: BrokerConfig) -> dict[str, Any]:
    return {name: getattr(broker, name) for name in BrokerConfig.__struct_fields__}


def files_of_brokers(config: Config) -> Iterator[tuple[str, Path]]:
    """Field paths, and the secrets and certificates that they name, of all brokers."""
    if config.mqtt is not None:
        yield from config.mqtt.files()
    for name, broker in config.brokers.items():
        yield from broker_files(broker, field_path("brokers", name))


def brokers_problems(config: Config, broken: Collection[int]) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        config: the whole.
        broken: numbers of bindings that could not be read.
    """
    if config.brokers and config.mqtt is None:
        yield "brokers", "stand beside the one of `mqtt:`, which is missing; add it"
    for name, broker in config.brokers.items():
        path = field_path("brokers", name)
        if name == MAIN:
            yield path, "is the name of the broker of `mqtt:`; take another"
        yield from login_problems(broker, path)
        if not 0 <= broker.session_expiry <= _MOST_NS:
            text = "is outside what MQTT can say; expected 0 to 4294967294s"
            yield f"{path}.session_expiry", text
        if config.mqtt is not None and config.mqtt.client == "paho" and broker.websocket:
            yield f"{path}.websocket", "needs `mqtt.client: native`, which is the default"
    known = {MAIN, *config.brokers}
    for index, binding in enumerate(config.bindings):
        if index in broken:
            continue
        for word in ("broker", "results"):
            named = getattr(binding, word)
            if named is not None and named not in known:
                near = did_you_mean(named, sorted(known))
                listed = ", ".join(sorted(known))
                text = f"no broker is named {quote(named)}{near}; brokers: {listed}"
                yield f"bindings[{index}].{word}", text
        path = f"bindings[{index}]"
        if binding.results is not None and binding.to is None:
            yield f"{path}.results", "says where answers on `to` go; add `to:`"
        if binding.answer_qos is not None and binding.to is None:
            yield f"{path}.answer_qos", "is of answers on `to`; add `to:`"
        if binding.sparkplug is not None and line_of(config, binding) != Line():
            text = "shows answers of the broker of `mqtt:`; remove it, or broker and results"
            yield f"{path}.sparkplug", text


def meets(binding: BindingConfig, other: BindingConfig) -> bool:
    """Whether answers of one binding come to the broker that another one reads from."""
    target = binding.results or binding.broker or MAIN
    return target == (other.broker or MAIN)
