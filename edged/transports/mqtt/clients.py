"""Which client speaks to a broker: the one that the configuration names, in one place."""

from __future__ import annotations

from edged.protocol.broker_session import BrokerSession
from edged.transports.mqtt.connection import SessionOptions


def open_session(options: SessionOptions, client: str) -> BrokerSession:
    """A session that is not started; the library of the other client is not even imported.

    Args:
        options: where and who.
        client: ``native`` or ``paho``.
    """
    if client == "native":
        from edged.transports.mqtt.native import NativeSession  # noqa: PLC0415 - only if used

        return NativeSession(options)
    from edged.transports.mqtt.paho import MqttSession  # noqa: PLC0415 - only if used

    return MqttSession(options)
