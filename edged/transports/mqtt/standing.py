"""How a session stands with its broker: for the status page, the log, and the next try.

Decides whether, when and with which version of MQTT to connect again; whoever moves the bytes acts.
"""

from __future__ import annotations

import logging
import random
import time
from typing import Any, NamedTuple

from edged.protocol.broker_session import Connected
from edged.transports.mqtt.connection import SessionOptions
from edged.transports.mqtt.reconnect import (
    BRIEF_LIMIT,
    BRIEF_WORDS,
    STEADY_S,
    Protocol,
    ProtocolChoice,
    Verdict,
    judge,
    longest_pause,
    next_delay,
)

log = logging.getLogger("edged.mqtt")

UNREAD_BYTES = 8 << 20
"""So much may wait for a broker that does not read; QoS 0 beyond it is refused and counted."""
UNREAD_WORDS = "the broker does not read what we send"
_VERSIONS: tuple[Protocol, ...] = ("5", "3.1.1")
SAY_AGAIN_S = 60.0
"""So long after it was said that messages are not sent, it is said again."""


class Ending(NamedTuple):
    """How a connection ended, or an attempt at one.

    Args:
        is_up: whether the broker had accepted us.
        reached_broker: whether anything of ours could reach it.
        reason_code: of its CONNACK or DISCONNECT; None where it gave none.
        reason: in its words.
        words: in those of the system; said where the broker said nothing.
        verdict: where the system's words leave no doubt.
        is_broken: it broke the specification, which explains why it never lasts long.
        is_silent: we broke it off because nothing was heard any more.
    """

    is_up: bool
    reached_broker: bool
    reason_code: int | None = None
    reason: str = ""
    words: str = ""
    verdict: Verdict | None = None
    is_broken: bool = False
    is_silent: bool = False


class Next(NamedTuple):
    """What follows: the words for people, whether to try again, and after how long."""

    reason: str
    will_retry: bool
    delay_s: float


class Standing:
    """One session's state over all its connections.

    Args:
        options: where and who.
        rng: for the jitter of reconnects.
    """

    def __init__(self, options: SessionOptions, rng: random.Random | None) -> None:
        self.state = "stopped"
        self.connections = 0
        self.heard_ns = 0
        self.last_error = ""
        self._options = options
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._choice = ProtocolChoice(options.protocol)
        self._up_since_ns = 0
        self._since = 0.0
        self._brief = 0
        self._attempt = 0
        self._troubled_since_ns: int | None = None
        self._suspicion: str | None = None
        self._said: dict[Protocol, str] = {}
        """Of a broker that took neither version yet, what became of the last try with each."""
        self._unsent = 0
        self._unsent_said_ns: int | None = None

    @property
    def protocol(self) -> Protocol:
        """The version to offer next."""
        return self._choice.current

    def begin(self) -> None:
        """An attempt begins."""
        self._up_since_ns = 0

    def connected(self, event: Connected) -> None:
        """The broker accepted us."""
        self._choice.accepted()
        self._said.clear()
        self.connections += 1
        self._up_since_ns = self.heard_ns = time.monotonic_ns()
        self._since, self.last_error, self.state = time.time(), "", "connected"
        log.info(
            "connected to %s:%d with MQTT %s (%s session)",
            self._options.host,
            self._options.port,
            event.protocol,
            "kept" if event.session_present else "new",
        )

    def ended(self, ending: Ending) -> Next:
        """Note how it ended, say so once, and decide what follows."""
        is_steady = self._was_steady()
        now_ns = time.monotonic_ns()
        if is_steady or self._troubled_since_ns is None:
            self._troubled_since_ns = now_ns
        judged, reason = judge(ending.reason_code or 0)
        # A network that swallows everything, or a broker that says why, is no other client.
        is_odd = ending.is_up and not ending.is_silent and ending.reason_code is None
        self._brief = self._brief + 1 if is_odd and not is_steady else 0
        verdict = ending.verdict or judged
        self._suspicion = None
        if self._brief >= BRIEF_LIMIT and judged is Verdict.RETRY:
            verdict = Verdict.SLOWLY
            if not ending.is_broken:
                reason = self._suspicion = BRIEF_WORDS.format(self._options.client_id)
        reason = reason or ending.reason or ending.words or "the connection was closed"
        is_instant = False
        if ending.reached_broker and not ending.is_up:
            reason = self._by_version(reason)
            is_instant = self._choice.refused(ending.reason_code)
        self._report(verdict, reason, was_up=ending.is_up)
        self._attempt = 0 if is_steady else self._attempt + 1
        longest_s = longest_pause(
            (now_ns - self._troubled_since_ns) / 1e9,
            self._options.longest_pause_s,
            reason_code=ending.reason_code,
            slowly=(ending.verdict or judged) is Verdict.SLOWLY,
        )
        delay = next_delay(
            max(0, self._attempt - 1),
            self._rng,
            slowly=verdict is Verdict.SLOWLY,
            longest_s=longest_s,
        )
        return Next(reason, is_instant or verdict is not Verdict.STOP, 0.0 if is_instant else delay)

    def _by_version(self, reason: str) -> str:
        """Why neither version is taken, where both were tried: the second may hide the first."""
        if self._choice.is_settled:
            return reason
        self._said[self._choice.current] = reason
        if len({*self._said.values()}) < len(_VERSIONS):
            return reason
        return "; ".join(f"with MQTT {one}: {self._said[one]}" for one in _VERSIONS)

    def _was_steady(self) -> bool:
        steady_s, since = STEADY_S, self._up_since_ns
        if self._brief >= BRIEF_LIMIT:
            # Another one of us grows as tired of it: for so long it may only be waiting.
            steady_s = max(steady_s, 2 * self._options.longest_pause_s)
        return since > 0 and time.monotonic_ns() - since >= steady_s * 1e9

    def left_unsent(self, why: str) -> None:
        """Count a message that was not sent and that nobody waits for, and say so now and then."""
        self._unsent += 1
        now_ns, said_ns = time.monotonic_ns(), self._unsent_said_ns
        if said_ns is None or now_ns - said_ns >= SAY_AGAIN_S * 1e9:
            self._unsent_said_ns = now_ns
            where = f"{self._options.host}:{self._options.port}"
            log.warning(
                "broker %s: a message of QoS 0 is lost: %s (%d so far)", where, why, self._unsent
            )

    def _report(self, verdict: Verdict, reason: str, *, was_up: bool) -> None:
        self.state = "refused" if verdict is Verdict.STOP else "connecting"
        if was_up or verdict is not Verdict.RETRY or reason != self.last_error:
            level = logging.WARNING if verdict is Verdict.RETRY else logging.ERROR
            log.log(level, "broker %s:%d: %s", self._options.host, self._options.port, reason)
        self.last_error = reason

    def stats(self) -> dict[str, Any]:
        """State, protocol, since when (wall clock), last error, and figures."""
        heard = (time.monotonic_ns() - self.heard_ns) / 1e9 if self.heard_ns else None
        is_up = self.state == "connected"
        return {
            "state": self.state,
            "protocol": self._choice.current if is_up else None,
            "since": self._since if is_up else None,
            "broker": f"{self._options.host}:{self._options.port}",
            "last_error": self.last_error or None,
            "suspicion": None if self._was_steady() else self._suspicion,
            "connections": self.connections,
            "heard_s": heard,
            "unsent": self._unsent,
        }

    @property
    def is_alive(self) -> bool:
        """Whether we are connected and the broker was heard within one and a half keepalives."""
        silence_s = (time.monotonic_ns() - self.heard_ns) / 1e9
        return self.state == "connected" and silence_s < 1.5 * self._options.keepalive_s
