"""A binding at work on one message whose rows go into a window.

A message that makes no window whole ends as ``gathered``: it is acknowledged when the rows of its
key are safe. One that does is acknowledged when also the answers to its windows are in the broker's
hands, or in the outbox; only then are its rows counted, so that nothing is lost or counted twice
wherever the connection breaks. Until then the next message of its key waits.
"""

from __future__ import annotations

from edged.errors import InvalidRequestError
from edged.outbox.age import now
from edged.processing.window import WindowRule, WindowState
from edged.protocol.broker_session import Publication
from edged.tensors import Array
from edged.transports.bindings.forwarding import Forwarder, identify
from edged.transports.bindings.keyed_states import Shelf
from edged.transports.bindings.work import Job

_MOST_WINDOWS = 64
"""That one message may make whole: each is a run, and its session waits for them."""


class WindowJob(Job):
    """See above; arguments as for Job."""

    _state: WindowState | None = None
    """What will count when all is done."""
    _rule: WindowRule | None = None
    _windows: tuple[Array, ...] = ()
    _answered = 0
    """Windows that are done with: their answers are safe, or left out."""
    _ends_as = "gathered"
    _is_counted = _is_taken = False

    def _take_up(self) -> None:
        if not self._key:
            raise InvalidRequestError(f"it belongs to no window: {self._problem}")
        self._outlet.lanes.enter(self._lane, self)

    @property
    def _lane(self) -> tuple[str, str]:
        return self._binding.name, self._key

    @property
    def _shelf(self) -> Shelf[WindowState]:
        window = self._config.window
        assert window is not None
        return self._outlet.states.shelf(
            self._binding.name,
            max_keys=window.max_keys, max_bytes=int(window.max_size),
            is_kept=window.keep == "disk",
        )  # fmt: skip

    def go(self) -> None:
        """Its turn has come."""
        if self._is_done or not self._is_wanted():
            self._outlet.lanes.leave(self._lane, self)
        else:
            self._guard(self._decode)

    def _ask(self, inputs: dict[str, Array]) -> None:
        compiled = self._compiled
        assert compiled is not None
        assert compiled.window is not None
        self._rule = rule = compiled.window.rule
        shelf = self._shelf
        state = shelf.get(self._key, rule)
        message = identify(self._message, self._binding.name) if self._message.qos else b""
        if state is not None and self._message.dup and message in state.ids:
            self._counters.duplicates += 1
            self._is_counted = True
            self._state = state
            self._finish()
            return
        at = now()
        self._state, windows = rule.add(state, inputs[compiled.window.name], at, message)
        if len(windows) > _MOST_WINDOWS:
            self._state = None
            raise InvalidRequestError(
                f"its rows make {len(windows)} windows whole; at most {_MOST_WINDOWS} may be; "
                "send fewer rows at a time"
            )
        if not self._is_taken:
            self._is_taken = True
            shelf.broken += rule.is_broken(state, at)
        # Asked again after a busy model: those that have their answer are not asked.
        self._windows = tuple(windows[self._answered :])
        self._next()

    def _next(self) -> None:
        compiled = self._compiled
        if not self._windows or compiled is None or compiled.window is None:
            self._count()
            return
        fit = compiled.window
        super()._ask({fit.name: self._windows[0].reshape(fit.whole)})

    def _count(self) -> None:
        if not self._is_counted:
            self._is_counted = True
            counters = self._counters
            setattr(counters, self._ends_as, getattr(counters, self._ends_as) + 1)
        self._finish()

    def _keep(self, forwarder: Forwarder, publication: Publication) -> None:
        """Not known again by its request: the outbox may have a window, and nobody its rows."""
        part = f"/{self._answered}"
        forwarder.keep(publication, self._config, self._message, self._on_answer_kept, part)

    def _delivered(self, ends_as: str = "answered") -> None:
        """The answer to a window is safe, or says nothing new."""
        if ends_as == "answered" or self._ends_as == "gathered":
            self._ends_as = ends_as
        self._answered += 1
        self._windows = self._windows[1:]
        self._guard(self._next)

    def _finish(self) -> None:
        state, self._state = self._state, None
        rule = self._rule
        if self._is_done or state is None or rule is None:
            super()._finish()
            self._outlet.lanes.leave(self._lane, self)
            return

        kept = super()._finish
        waits = self._message.qos > 0
        self._shelf.put(
            self._key, state, state.size_bytes, rule.pack(state), kept if waits else None
        )
        self._outlet.lanes.leave(self._lane, self)
        if not waits:
            super()._finish()

    def abandon(self) -> None:
        """As Job; its rows were not counted, or are known again by its message."""
        super().abandon()
        self._outlet.lanes.leave(self._lane, self)
