"""The work of a binding whose answers are only shown as Sparkplug, and published nowhere."""

from __future__ import annotations

from edged.errors import InvalidRequestError
from edged.protocol.broker_session import Publication
from edged.transports.bindings.reply_topic import checked_reply_topic
from edged.transports.bindings.work import Job


class ShownJob(Job):
    """See above; who asks for a reply gets it, as of every binding."""

    def _begin(self) -> None:
        self._reply_to = checked_reply_topic(self._message.response_topic, self._bindings)
        if self._reply_to is not None:
            super()._begin()
        elif not self._route.shown:
            raise InvalidRequestError(self._problem or "it is about no device")
        else:
            self._take_up()

    def _deliver(self, publication: Publication) -> None:
        if self._reply_to is not None:
            super()._deliver(publication)
        elif self._watch.leaves_out():
            self._delivered("suppressed")
        else:
            self._binding.show(self._outlet.profiles, self._route, self._compiled, self._watch)
            self._delivered()
