"""The daemon as an edge node of Sparkplug B: answers are the metrics of its devices.

Decides what is said when: at birth all that there is, then only what changed, and all again when
somebody asks. What Sparkplug shows are states, with QoS 0: no acknowledgement depends on it, and
what changes while the broker is away, or the primary host, stands in the next birth.
Source: Sparkplug 3.0, 4 "Sparkplug Topics and Messages" and 5 "Operational Behavior".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from edged.errors import EdgedError
from edged.processing.readings import Reading
from edged.protocol.broker_session import (
    REFUSED,
    BrokerSession,
    Connected,
    Disconnected,
    Message,
    Publication,
    Published,
    SessionEvent,
    Subscribed,
)
from edged.protocol.sparkplug import DataType, Metric, encode_sparkplug, parse_sparkplug
from edged.protocol.sparkplug_births import NAMESPACE, REBIRTH
from edged.transports.bindings.primary_host import PrimaryHost
from edged.transports.bindings.sparkplug_devices import KINDS, Device, Known, fitting

log = logging.getLogger("edged.mqtt")

MOST_DEVICES = 4096
"""Beyond them the one that was silent longest dies, and is born again when it speaks."""
_AT_A_TIME, _PAUSE_S = 20, 0.05
"""Births of devices: the loop has other work, and the broker other clients."""
_REBIRTH_PAUSE_S = 1.0
"""However many ask, all is said once in so long."""
_COMMAND_CAP_BYTES = 16 << 10
_GOODBYE_S = 2.0
_HOST_PAUSE_S = 1.0
"""Between the connection that ended with its host and the next: a host may come and go quickly."""
_SHOWN = 64
_FIGURES = {"NBIRTH": "births", "DBIRTH": "births", "DDATA": "data"}


class SparkplugNode:
    """See above; used from the event loop, but for ``death``.

    Args:
        group: as configured.
        node: likewise.
        aliases: data has numbers instead of names.
        host: the primary host application; what there is is said while it is online. None: always.
        on_change: called when ``problem`` may have changed.
    """

    def __init__(
        self,
        group: str,
        node: str,
        *,
        aliases: bool = False,
        host: str | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.problem: str | None = "not connected to the broker yet"
        self._group, self._node, self._has_aliases = group, node, aliases
        self._host = PrimaryHost(host) if host is not None else None
        self._on_change = on_change or (lambda: None)
        self._session: BrokerSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection = 0
        self._limit: int | None = None
        # That of another process would do no harm: a broker says deaths before it lets us in again.
        self._bd_seq, self._seq, self._aliases = int(time.time()) % 256, 0, 0
        self._devices: OrderedDict[str, Device] = OrderedDict()
        self._said: dict[int, str] = {}
        """What the session has not told the end of, by token: the figure that counts it."""
        self._refusal = self._trouble = ""
        """Why the last birth is not whole: until the next begins, and until that one has left."""
        self._timer: asyncio.TimerHandle | None = None
        self._rebirth_timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._return_timer: asyncio.TimerHandle | None = None
        self._born_s, self.births, self.data, self.rebirths = 0.0, 0, 0, 0

    def death(self) -> Publication:
        """What the broker says when we vanish from the connection that begins now."""
        self._bd_seq = (self._bd_seq + 1) % 256
        return self._death()

    def _death(self) -> Publication:
        metric = Metric("bdSeq", DataType.INT64, self._bd_seq)
        return Publication(self._topic("NDEATH"), encode_sparkplug([metric], _now_ms()), qos=1)

    def start(self, session: BrokerSession) -> None:
        """Connect; a broker that is away is waited for.

        Args:
            session: with a name of its own, no memory, and ``death`` as its will.
        """
        self._session, self._loop = session, asyncio.get_running_loop()
        session.start(self._loop, self._on_event)

    async def stop(self) -> None:
        """Say that the node is gone."""
        session, self._session = self._session, None
        if session is None:
            return
        if self._connection and (self._host is None or self._host.is_online):
            session.publish(self._death())  # also behind what was refused: it was born before
        self._forget()
        if self._leaving is not None:
            await self._leaving
        if self._return_timer is not None:
            self._return_timer.cancel()
        await session.stop(_GOODBYE_S)

    def stats(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "state": self._session.stats()["state"] if self._session is not None else "stopped",
            "problem": self.problem,
            "devices": len(self._devices),
            "too_large": sum(device.is_too_large for device in self._devices.values()),
            "metrics": sum(device.count() for device in self._devices.values()),
            "births": self.births, "data": self.data, "rebirths": self.rebirths,
            "host_online": self._host.is_online if self._host is not None else None,
        }  # fmt: skip

    def keep(self, bindings: Collection[str]) -> None:
        """Forget what other bindings said; what a device has no more, its next birth leaves out."""
        for name, device in list(self._devices.items()):
            gone = device.known.keys() - set(bindings)
            for binding in gone:
                del device.known[binding]
            if not device.known:
                self._die(name)
            elif gone:
                device.is_born = device.is_too_large = False
        if self._connection:
            self._review()
        self._pace()

    def tell(
        self, name: str, binding: str, readings: Sequence[Reading], row: dict[str, Any]
    ) -> None:
        """An answer about a device; said where it is news.

        Args:
            name: the device.
            binding: which answered.
            readings: all that its answers have.
            row: this one.
        """
        device = self._devices.get(name)
        if device is None:
            if len(self._devices) >= MOST_DEVICES:
                self._die(next(iter(self._devices)))
            device = self._devices[name] = Device()
        self._devices.move_to_end(name)
        before = device.known.get(binding, {})
        now: dict[str, Known] = {}
        for reading in readings:
            metric = f"{binding}/{reading.name}"
            kind, old = KINDS[reading.kind], before.get(metric)
            if old is not None and old.kind == kind:
                now[metric] = old._replace(value=fitting(reading.of(row), kind))
            else:
                now[metric] = Known(kind, fitting(reading.of(row), kind), self._alias())
        device.known[binding] = now
        if not device.is_born or before.keys() != now.keys():
            self._bear(name, device)
            return
        news = {metric for metric, one in now.items() if before[metric] != one}
        if news and self._is_live and not self._say("DDATA", device.metrics(news), name):
            self._bear(name, device)  # which is larger yet: what is said of it is out of date

    @property
    def _is_live(self) -> bool:
        """Whether anything may be said."""
        is_heard = self._host is None or self._host.is_online
        return bool(self._connection) and is_heard and not self._refusal

    def _alias(self) -> int | None:
        if not self._has_aliases:
            return None
        self._aliases += 1
        return self._aliases

    def _topic(self, kind: str, device: str | None = None) -> str:
        topic = f"{NAMESPACE}/{self._group}/{kind}/{self._node}"
        return topic if device is None else f"{topic}/{device}"

    def _say(
        self,
        kind: str,
        metrics: Sequence[Metric],
        device: str | None = None,
        *,
        is_known_large: bool = False,
    ) -> bool:
        """Send with the next number, unless the broker would end the connection for it."""
        if self._session is None or not self._is_live:
            return False
        payload = encode_sparkplug(metrics, _now_ms(), self._seq)
        publication = Publication(self._topic(kind, device), payload, qos=0)
        if self._limit is not None and publication.size_bytes > self._limit:
            if not is_known_large:
                log.warning("%s is larger than the broker takes: not said", publication.topic[:128])
            return False
        self._seq = (self._seq + 1) % 256
        token = self._session.publish(publication)
        if figure := _FIGURES.get(kind):
            self._said[token] = figure
            setattr(self, figure, getattr(self, figure) + 1)
        return True

    def _bear(self, name: str, device: Device) -> None:
        was_born, was_large = device.is_born, device.is_too_large
        device.is_born = self._say("DBIRTH", device.metrics(), name, is_known_large=was_large)
        device.is_too_large = self._is_live and not device.is_born
        if was_born and device.is_too_large:
            self._say("DDEATH", [], name)  # what was said at its birth is not true any more
        if was_large != device.is_too_large:
            self._review()

    def _refused(self, event: Published) -> None:
        """Something did not leave, as where the broker reads nothing: who hears has a gap.

        What was said behind it makes no sense to anybody, and a device whose birth it was is not
        born. All is said again from the beginning.
        """
        if (figure := self._said.pop(event.token, None)) is not None:
            setattr(self, figure, getattr(self, figure) - 1)
        self._break_off(event.reason)
        if self._rebirth_timer is None and self._loop is not None and self._session is not None:
            self._rebirth_timer = self._loop.call_later(_REBIRTH_PAUSE_S, self._begin)

    def _break_off(self, why: str) -> None:
        is_news = why != self._trouble
        self._refusal = self._trouble = why
        self._stop_pacing()
        for device in self._devices.values():
            device.is_born = device.is_too_large = False
        if is_news:
            log.warning("the broker takes no births of %s: %s", self._topic("NBIRTH"), why)
            self._review()

    def _die(self, name: str) -> None:
        device = self._devices.pop(name)
        if device.is_born:
            self._say("DDEATH", [], name)
        elif device.is_too_large:
            self._review()

    def _on_event(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            self._connection, self._limit = event.connection, event.maximum_packet_bytes
            if self._session is not None:
                own = [self._host.topic] if self._host is not None else []
                self._session.subscribe([(text, 1) for text in (self._topic("NCMD"), *own)])
            self._review()
            self._begin()
        elif isinstance(event, Published):
            if event.connection == self._connection and event.reason_code >= REFUSED:
                self._refused(event)
            else:
                self._said.pop(event.token, None)
                if self._trouble and not (self._said or self._refusal):
                    self._trouble = ""
                    self._review()
        elif isinstance(event, Disconnected):
            self._forget()
            self.problem = event.reason
            self._on_change()
        elif event.connection != self._connection:
            return
        elif isinstance(event, Message):
            if self._session is not None:
                self._session.ack(event)
            if self._host is not None and event.topic == self._host.topic:
                self._on_state(event.payload)
            else:
                self._on_command(event)
        elif isinstance(event, Subscribed) and self._host is not None:
            self._host.refusal = dict(event.failures).get(self._host.topic, self._host.refusal)
            self._review()

    def _review(self) -> None:
        """Say why nothing is said on a connection that is up."""
        self.problem = self._host.problem if self._host is not None else None
        large = [name for name, device in self._devices.items() if device.is_too_large]
        if self.problem is None and self._trouble:
            self.problem = f"the broker takes no births: {self._trouble}"
        elif self.problem is None and large:
            self.problem = (
                f"the births of {len(large)} devices are larger than the {self._limit} bytes that "
                f'the broker takes, as that of "{large[0][:_SHOWN]}": nothing is said of them'
            )
        self._on_change()

    def _on_state(self, payload: bytes) -> None:
        host, session = self._host, self._session
        if host is None or session is None or not host.hears(payload):
            return
        if host.is_online:
            self._begin()
        else:
            # The will of this connection has the number of a birth that is over: another one.
            session.publish(self._death())
            self._forget()
            self._leaving = asyncio.create_task(self._leave(session))
        self._review()

    async def _leave(self, session: BrokerSession) -> None:
        """End this connection; the next waits for the host."""
        await session.stop(_GOODBYE_S)
        self._leaving = None
        if self._session is session and self._loop is not None:
            self._return_timer = self._loop.call_later(
                _HOST_PAUSE_S, session.start, self._loop, self._on_event
            )

    def _on_command(self, message: Message) -> None:
        if message.retain or len(message.payload) > _COMMAND_CAP_BYTES or self._loop is None:
            return
        try:
            asked = parse_sparkplug(message.payload).get(REBIRTH)
        except EdgedError as exc:
            log.warning("a command on %s cannot be read: %s", message.topic[:128], exc.message)
            return
        if asked is True and self._is_live and self._rebirth_timer is None:
            self.rebirths += 1
            left_s = self._born_s + _REBIRTH_PAUSE_S - self._loop.time()
            self._rebirth_timer = self._loop.call_later(max(0.0, left_s), self._begin)

    def _begin(self) -> None:
        """The node's birth, and those of its devices behind it."""
        if self._rebirth_timer is not None:
            self._rebirth_timer.cancel()
            self._rebirth_timer = None
        self._refusal = ""
        if self._loop is None or not self._is_live:
            return
        self._born_s = self._loop.time()
        self._seq = 0
        is_said = self._say(
            "NBIRTH",
            [
                Metric("bdSeq", DataType.INT64, self._bd_seq),
                Metric(REBIRTH, DataType.BOOLEAN, value=False),
            ],
        )
        if not is_said:
            self._break_off(f"that of the node is larger than {self._limit} bytes")
            return
        for device in self._devices.values():
            device.is_born = False
        self._pace()

    def _pace(self) -> None:
        """Bear devices, a few at a time."""
        self._stop_pacing()
        if not self._is_live or self._loop is None:
            return
        devices = self._devices.items()
        unborn = [one for one in devices if not (one[1].is_born or one[1].is_too_large)]
        for name, device in unborn[:_AT_A_TIME]:
            self._bear(name, device)
        if len(unborn) > _AT_A_TIME:
            self._timer = self._loop.call_later(_PAUSE_S, self._pace)

    def _stop_pacing(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        """The connection is gone, and with it who was born on it."""
        self._connection, self._refusal, self._trouble = 0, "", ""
        self._said.clear()
        if self._host is not None:
            self._host.forget()
        self._stop_pacing()
        if self._rebirth_timer is not None:
            self._rebirth_timer.cancel()
            self._rebirth_timer = None
        for device in self._devices.values():
            device.is_born = device.is_too_large = False


def _now_ms() -> int:
    return time.time_ns() // 10**6
