"""What else is said and heard on a session's connection beside requests and answers.

Home Assistant is told of devices (``discovery.py``), Sparkplug nodes' births are heard, and answers
are shown as Sparkplug (``sparkplug_node.py``, over a session of its own). Decides nothing itself:
it is where the bindings hand on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.protocol.broker_session import Publication
from edged.protocol.sparkplug_births import Births
from edged.transports.bindings.discovery import Discovery

if TYPE_CHECKING:
    from edged.transports.bindings.binding_set import BindingSet
    from edged.transports.bindings.sparkplug_node import SparkplugNode


class Profiles:
    """See above.

    Args:
        send: publishes on the connection that is up, or does nothing.
        later: calls after so many seconds; the loop's ``call_later``.
    """

    def __init__(
        self,
        send: Callable[[Publication], None],
        later: Callable[[float, Callable[[], None]], asyncio.TimerHandle],
    ) -> None:
        self.discovery = Discovery(send, later)
        self.births = Births(send)
        self.node: SparkplugNode | None = None

    def want(self, bindings: BindingSet) -> None:
        """Serve these bindings."""
        self.discovery.want(bindings.discovery_delays())
        bindings.births = self.births

    def hears(self, topic: str, payload: bytes) -> bool:
        """Whether a message is for one of them."""
        return self.discovery.hears(topic, payload) or self.births.hears(topic, payload)
