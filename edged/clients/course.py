"""How far a sequence has come, as whoever asks sees it: for either client.

Decides whether a request begins the sequence, goes on with it or ends it; sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from edged.messages import SequencedRequest, SequenceStep
from edged.protocol import asking
from edged.protocol.steps import check_sequence, new_sequence
from edged.tensors import Array


class Course:
    """Of one sequence.

    Args:
        model: the model's name.
        sequence_id: a text or a number; None for a new one.
        release: as for ``Client.infer``.

    Raises:
        InvalidRequestError: an id that is none.
    """

    def __init__(
        self, model: str, sequence_id: int | str | None, release: int | str | None
    ) -> None:
        self.id = new_sequence() if sequence_id is None else sequence_id
        check_sequence(self.id)
        self.model, self.release = model, release
        self.is_open = False
        """Whether its first request was sent, and its last was not."""

    def restart(self) -> None:
        """Let the next request begin anew, with a fresh state."""
        self.is_open = False

    def _request(
        self,
        inputs: Mapping[str, Array] | None,
        tensors: Mapping[str, Array],
        outputs: Collection[str],
        *,
        end: bool,
    ) -> SequencedRequest:
        """The next request, of what a caller gave."""
        named = asking.named_arrays(inputs, tensors)
        wanted = asking.wanted_outputs(outputs)
        step = SequenceStep(self.id, not self.is_open, end)
        return SequencedRequest(self.model, named, self.release, wanted, sequence=step)

    def _last(self) -> SequencedRequest | None:
        """What lets the daemon forget the state; None where it keeps none."""
        if not self.is_open:
            return None
        self.is_open = False
        step = SequenceStep(self.id, False, True)
        return SequencedRequest(self.model, {}, self.release, sequence=step)
