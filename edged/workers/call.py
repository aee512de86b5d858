"""The layout that a worker's load named, and the shortest ways through it.

Runs in the child, on the thread of one socket.
"""

from __future__ import annotations

import contextlib
import time

from edged.errors import EdgedError
from edged.messages import Asker
from edged.protocol import prepared
from edged.protocol.lane import LANE_ROWS, Lane
from edged.protocol.layout import BodyLayout
from edged.runtimes.base import BoundRun, Session
from edged.tensors import Array, TensorSpec


class PreparedCall:
    """The layout that the load named, and the shortest ways for it.

    Args:
        session: what is asked.
        inputs: names, dtypes and shapes of the questions.
        outputs: those of the answers.
    """

    def __init__(
        self, session: Session, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self._session = session
        self._signature = inputs, outputs
        self.inputs = BodyLayout(inputs)
        self.answers = prepared.answer_layout(outputs)
        self._lanes: dict[int, Lane | None] = {}

    def lane(self, rows: int) -> Lane | None:
        """The shortest way for so many rows; None when there is none."""
        try:
            return self._lanes[rows]
        except KeyError:
            lane = None
            if self.answers is not None:
                with contextlib.suppress(EdgedError):
                    lane = Lane(self.inputs, self.answers, rows, self)
            if rows <= LANE_ROWS:
                self._lanes[rows] = lane
            return lane

    def beside(self) -> PreparedCall:
        """The same for another thread: lanes have memory of their own."""
        return PreparedCall(self._session, *self._signature)

    def forget(self) -> None:
        """Let go of the lanes, which hold on to this in turn."""
        self._lanes.clear()

    def bind(self, inputs: dict[str, Array], outputs: dict[str, Array], _rows: int) -> Bound | None:
        """A run from these inputs to these outputs."""
        run = self._session.bind(inputs, outputs)
        return None if run is None else Bound(run)


class Bound:
    """A run, as a lane sees it.

    Args:
        run: of the session.
    """

    is_current = True

    def __init__(self, run: BoundRun) -> None:
        self._run = run

    def run(self, _origin: str, _key: Asker = None) -> tuple[int, int, int, int] | None:
        """Run; None when it failed, and the usual way says why."""
        began_ns = time.monotonic_ns()
        try:
            self._run.run()
        except Exception:
            return None
        return 0, 0, time.monotonic_ns() - began_ns, 0
