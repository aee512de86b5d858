"""A session in a worker that makes texts: pieces come through the event loop as they are made.

All else is as for any session in a worker: who has to go, and when, is decided there; the time that
a run may take is here the time to the next piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from edged.errors import EdgedError, RemoteProtocolError
from edged.protocol import native, streams
from edged.protocol.frames import Frame, Kind
from edged.tensors import Array
from edged.workers.session import OnDone, WorkerSession
from edged.workers.side import SideWay
from edged.workers.worker import LIMITS

OnPart = Callable[[Mapping[str, Array]], None]


class Streaming(WorkerSession):
    """What makes a session in a worker one that streams."""

    _on_part: OnPart | None = None
    _index = 0
    _is_unwanted = False

    def stream(
        self, inputs: Mapping[str, Array], on_part: OnPart, on_done: OnDone
    ) -> Callable[[], None]:
        """Start a text, only when a way is free.

        Args:
            inputs: the request and its caps.
            on_part: called on the loop with each piece but the last.
            on_done: called on the loop, once, with the last piece or an error.

        Returns:
            What withdraws it: no piece comes after the call, and ``on_done`` is called when the
            worker has ended it and the way is free.
        """
        ways = [way for way in (self, *self._sides) if way.is_free]
        way = ways[0]
        assert isinstance(way, Streaming)
        way._begin_text(inputs, on_part, on_done)  # noqa: SLF001 - one of its own kind
        return way._withdraw  # noqa: SLF001

    def _begin_text(self, inputs: Mapping[str, Array], on_part: OnPart, on_done: OnDone) -> None:
        loop = self._loop
        assert loop is not None
        self._on_part, self._on_done = on_part, on_done
        self._index, self._is_unwanted = 0, False
        if self._is_closed:
            loop.call_soon(self.finish, {}, self._death("was ended"))
            return
        self._due_s = time.monotonic() + self._caps.run_timeout_s
        if self._timer is None:
            self._timer = loop.call_later(self._caps.run_timeout_s, self._look_at_clock)
        self._link.stream(inputs)
        self._write()

    def _withdraw(self) -> None:
        if self._on_part is None or self._is_unwanted:
            return
        self._is_unwanted = True
        # Before the first piece the worker has perhaps not read the request, and it must not find
        # both at once; nor could it stop before the first token.
        if self._index and not self._is_closed:
            self._say()

    def _say(self) -> None:
        self._link.withdraw()
        self._write()

    def _handle(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self._on_part is None:
                super()._handle([frame])
                continue
            try:
                self._take(frame)
            except RemoteProtocolError as exc:
                self._die(self.lost(exc))
                return

    def _take(self, frame: Frame) -> None:
        """One frame of a text; raises RemoteProtocolError where it is none."""
        if self._on_part is None or not self._link.is_awaited(frame):
            return
        is_part = frame.kind == Kind.PART
        try:
            if is_part:
                response = streams.decode_part(frame, self._model, LIMITS)[0]
            else:
                response = native.decode_response(frame, self._model, LIMITS)
        except EdgedError as exc:
            # Not the asker's fault, whatever its class says.
            raise RemoteProtocolError(f"a piece that is none: {exc.message}") from exc
        if not is_part:
            self.finish(response.outputs, response.error)
            return
        self._due_s = time.monotonic() + self._caps.run_timeout_s
        self._index += 1
        if not self._is_unwanted:
            self._on_part(response.outputs)
        elif self._index == 1:
            self._say()

    def finish(self, outputs: Mapping[str, Array], error: EdgedError | None) -> None:
        """Tell whoever waits, if anybody does."""
        self._on_part = None
        super().finish(outputs, error)


class TextSession(Streaming):
    """One process with one loaded model that makes texts."""


class TextWay(Streaming, SideWay):
    """One more way to such a model."""
