"""What each request of a sequence says of it, without a daemon."""

from __future__ import annotations

import numpy as np
import pytest

from edged.clients.course import Course
from edged.errors import InvalidRequestError
from edged.messages import SequenceStep

ONE = np.ones((1, 3), np.float32)


def test_it_begins_goes_on_and_ends():
    course = Course("gate", "mic", 3)
    assert course._last() is None, "nothing is kept yet"
    first = course._request({"x": ONE}, {}, ["y"], end=False)
    assert (first.model, first.release, first.outputs) == ("gate", 3, ("y",))
    assert first.sequence == SequenceStep("mic", True, False)
    course.is_open = True
    assert course._request(None, {"x": ONE}, (), end=True).sequence == SequenceStep(
        "mic", False, True
    )
    last = course._last()
    assert last.only_ends
    assert not course.is_open
    course.is_open = True
    course.restart()
    assert course._last() is None


def test_ids():
    assert Course("gate", None, None).id != Course("gate", None, None).id
    with pytest.raises(InvalidRequestError, match="expected a text of 1 to 256"):
        Course("gate", "", None)
    with pytest.raises(InvalidRequestError, match='"x" is a list'):
        Course("gate", 0, None)._request({"x": [1]}, {}, (), end=False)
