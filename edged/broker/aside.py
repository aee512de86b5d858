"""Sessions beside that of requests: questions to the daemon, and configuration from afar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edged.config.mqtt import MqttConfig

if TYPE_CHECKING:
    from edged.transports.bindings.desired import DesiredTopic, Offer
    from edged.transports.bindings.questions import Call, Questions
    from edged.transports.mqtt.connection import SessionOptions

_ENVELOPE_BYTES = 64 << 10
"""For what is around a document, with JSON's marks."""


def open_questions(
    mqtt: MqttConfig,
    options: SessionOptions,
    calls: Mapping[str, Call],
    is_input: Callable[[str], bool],
) -> Questions:
    """Begin to answer those that ``mqtt.questions`` allows.

    Args:
        mqtt: as configured.
        options: of the session beside which it has its own.
        calls: all that could be asked.
        is_input: whether a topic is read by a binding.
    """
    from edged.transports.bindings.questions import Questions  # noqa: PLC0415
    from edged.transports.mqtt.clients import open_session  # noqa: PLC0415 - only if used

    options = replace(options.named("req"), session_expiry_s=0, max_inflight=8)
    allowed: dict[str, Call] = {name: calls[name] for name in mqtt.questions}
    made = Questions(open_session(options, mqtt.client), options.base, allowed, is_input)
    made.start()
    return made


def open_desired(
    mqtt: MqttConfig,
    options: SessionOptions,
    offer: Offer,
    reported: dict[str, Any] | None,
) -> DesiredTopic:
    """Begin to take configurations, as ``mqtt.desired`` says.

    Args:
        mqtt: as configured.
        options: of the session beside which it has its own.
        offer: takes what comes.
        reported: what is said of the configuration in effect; None = not known yet.
    """
    from edged.transports.bindings.desired import DesiredTopic  # noqa: PLC0415 - only if used
    from edged.transports.mqtt.clients import open_session  # noqa: PLC0415

    assert mqtt.desired is not None
    # Above what is taken, so that one that is too long is answered and not lost in silence.
    most = 2 * int(mqtt.desired.max_size) + _ENVELOPE_BYTES
    options = replace(
        options.named("config"), max_inflight=8, max_packet_bytes=most, takes_retained=True
    )
    made = DesiredTopic(open_session(options, mqtt.client), options.base, offer)
    if reported is not None:
        made.report(reported)
    made.start()
    return made
