"""What one connection asks again and again: noticed, prepared once, and answered the short way.

Decides when a request is worth preparing (when its like came twice in a row) and when it is
answered on the spot (when nobody else asks for anything, as over the native socket).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edged.errors import EdgedError
from edged.messages import InferResponse, PrepareRequest, Ticket
from edged.protocol.http_reader import HttpRequest
from edged.protocol.http_repeat import HttpLane, HttpRepeat, Same, same_part
from edged.protocol.oip_request import Asked
from edged.transports.http.gathering import Gathering, Gatherings
from edged.transports.oip_door import Door, Entry, Prepared

Respond = Callable[[HttpRepeat, bytes, InferResponse], None]
"""Told of the answer to a request, with what that is like."""


class _Known:
    """A repeat, its call, and its lane once there is one."""

    __slots__ = (
        "call",
        "entry",
        "gathering",
        "has_gathering",
        "has_lane",
        "lane",
        "model",
        "repeat",
    )

    def __init__(self, repeat: HttpRepeat, call: Prepared, model: str) -> None:
        self.repeat = repeat
        self.call = call
        self.model = model
        self.lane: HttpLane | None = None
        self.has_lane = True
        """Whether there may be one."""
        self.gathering: Gathering | None = None
        self.entry = call.entry
        self.has_gathering = True


class Repeats:
    """Of one connection.

    Args:
        door: what is asked.
        gatherings: where it is asked together with other connections.
    """

    def __init__(self, door: Door, gatherings: Gatherings) -> None:
        self.door = door
        """What is asked; see ``access.guard``."""
        self._gatherings = gatherings
        self._seen: Same | None = None
        self._known: _Known | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._seen, self._known = None, None

    def notice(self, request: HttpRequest, asked: Asked, model: str, version: int | None) -> None:
        """Take note of a request that went the long way."""
        same = same_part(request, asked) if request.is_plain else None
        if same is None or same != self._seen:
            self._seen = same
            return
        repeat = HttpRepeat(same, asked)
        outputs = tuple(one.name for one in asked.outputs)
        what = PrepareRequest(model, repeat.specs, version, outputs, asked.asker)
        try:
            call = self.door.prepare(what)
        except EdgedError:
            self.clear()  # the long way says what is wrong
            return
        self._known = _Known(repeat, call, model)

    def fits(self, data: bytes) -> bool:
        """Whether these bytes are one request that can be taken here."""
        known = self._known
        if known is None or not known.repeat.fits(data):
            return False
        if not known.call.is_current:
            self.clear()  # the long way looks everything up, also whether it is allowed
            return False
        return True

    @property
    def gathering(self) -> Gathering | None:
        """Where requests that fit are asked together with those of others."""
        known = self._known
        return None if known is None else known.gathering

    @property
    def entry(self) -> Entry | None:
        """Lets them in there; None where nothing holds them."""
        known = self._known
        return None if known is None else known.entry

    def gathered(self) -> Gathering | None:
        """The same, and now is the time to begin one where there may be any."""
        known = self._known
        if known is None or not known.has_gathering:
            return None
        if known.gathering is None:
            known.gathering = self._gatherings.of(known.repeat, known.call, known.model)
            known.has_gathering = known.gathering is not None
        return known.gathering

    def answer_alone(self, data: bytes, origin: str, asker: object) -> bytes | None:
        """The answer to a request that fits, when nobody else asks for anything; else None.

        Raises:
            StillRunningError: it runs in a worker and is to be adopted.
        """
        known = self._known
        if known is None or not known.has_lane or not known.call.turn.is_alone(asker):
            return None
        lane = known.lane
        if lane is None:
            try:
                call = known.call
                lane = HttpLane(known.repeat, call, call.outputs, known.model, call.numbers)
            except EdgedError:
                known.has_lane = False
                return None
            known.lane = lane
        answer = lane.ask(data, origin)
        if answer is None and not lane.is_current:
            known.lane = None
        return answer

    def adopt(self, data: bytes, origin: str, respond: Respond) -> None:
        """Answer the request whose lone run goes on in a worker, when that is over."""
        known = self._known
        assert known is not None
        lane, known.lane = known.lane, None
        assert lane is not None
        repeat = known.repeat

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                respond(repeat, data, response)

        known.call.adopt(lane.inputs, 0, origin, on_response)

    def submit(self, data: bytes, origin: str, respond: Respond) -> Ticket | None:
        """Ask what a request that fits asks; the answer comes now or later."""
        known = self._known
        assert known is not None
        repeat = known.repeat
        timeout_us = repeat.asked.timeout_us
        deadline_ns = time.monotonic_ns() + timeout_us * 1000 if timeout_us else None

        def on_response(response: InferResponse, final: bool) -> None:
            if final:
                respond(repeat, data, response)

        inputs, key = repeat.inputs(data), repeat.asker(data)
        return known.call.submit(inputs, 0, deadline_ns, origin, on_response, key=key)
