"""An answer that a thread may wait for, or not."""

from __future__ import annotations

from edged.clients.link import Waiter
from edged.errors import CancelledError
from edged.protocol.conversation import InferResult
from edged.protocol.frames import Frame


class Pending(Waiter):
    """An answer that may still be on its way."""

    __slots__ = ()

    def result(self) -> InferResult:
        """Wait for the answer.

        Raises:
            EdgedError: what the server says went wrong, or DisconnectedError.
        """
        if self.frame is None:
            self.link.read_until_done(self)
        return self.infer_result()

    def wait(self) -> Frame:
        """Wait for the frame that answers."""
        self.link.read_until_done(self)
        return self.answer()

    def cancel(self) -> bool:
        """Withdraw the request; whoever waits gets CancelledError.

        A request that still waits for its turn is never run. One that runs already is finished by
        the daemon, and its answer dropped.

        Returns:
            False when it had been answered before.
        """
        if self.is_done:
            return False
        self.link.withdraw(self, CancelledError("withdrawn by the caller"))
        return True
