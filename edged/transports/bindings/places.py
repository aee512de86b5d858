"""How many requests a broker may give a session before the first of them is acknowledged.

Decides at each connection, for there MQTT 5 fixes it (Receive Maximum): as many as the models that
are asked answer within a second. What they can take then changes with each run; while a connection
is up, that shows in acknowledgements that come later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edged.transports.bindings.binding_set import BindingSet

log = logging.getLogger("edged.mqtt")

Capacity = Callable[[str, "int | str | None"], int]
"""Requests that the release that would answer can have in hand; 0 = not known."""


class Places:
    """Those of one session; see above.

    Args:
        most: as configured.
        session: its name; None = the main one.
        bindings: of all sessions, as they are now.
        capacity: of models.
    """

    def __init__(
        self,
        most: int,
        session: str | None = None,
        bindings: Callable[[], BindingSet | None] = lambda: None,
        capacity: Capacity | None = None,
    ) -> None:
        self.now = most
        """Of the connection that is up."""
        self.shared = most
        """Those that several models share: with more than half of them a message that only waits
        would keep another model's from a place."""
        self.most = most
        self._session, self._bindings, self._capacity = session, bindings, capacity

    def take(self, is_v5: bool) -> int:
        """Those of a connection that begins; MQTT 3.1.1 has no word for it."""
        self.now = self.shared = self.most
        if is_v5:
            try:
                self._look()
            except Exception:  # a session must come up whatever a model says
                log.exception("how many messages the models can take is not known")
        return self.now

    def _look(self) -> None:
        every = self._bindings()
        if self._capacity is None or every is None:
            return
        bindings = [one for one in every.bindings if one.config.session == self._session]
        if any(one.config.window is not None or one.config.join for one in bindings):
            return  # most of their messages ask nothing and only wait for the disk
        asked = {(one.model, one.release) for one in bindings}
        found = [self._capacity(*one) for one in asked]
        # One of which nothing is known, say because it is still loaded, counts as a fast one.
        if found and all(found):
            self.now = min(self.most, sum(found))
        if len(asked) > 1:
            self.shared = self.now
