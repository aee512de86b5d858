"""What else is said and heard on a session's connection beside requests and answers.

Home Assistant is told of devices (``discovery.py``) and Sparkplug nodes' births are heard. Decides
nothing itself: it is where the bindings hand on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from edged.protocol.mqtt import Publication
from edged.protocol.sparkplug_births import Births
from edged.transports.bindings.discovery import Discovery

if TYPE_CHECKING:
    from edged.transports.bindings.binding_set import BindingSet


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

    def want(self, bindings: BindingSet) -> None:
        """Serve these bindings."""
        self.discovery.want(bindings.discovery_delays())
        bindings.births = self.births

    def hears(self, topic: str, payload: bytes) -> bool:
        """Whether a message is for one of them."""
        return self.discovery.hears(topic, payload) or self.births.hears(topic, payload)
