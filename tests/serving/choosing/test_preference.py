"""What a load came to is said with who was wanted, who serves, why, and since when."""

from __future__ import annotations

import pytest

from edged.errors import LoadError
from edged.loading import Loaded, Skipped
from edged.runtimes.base import Artefact
from edged.serving.choosing.preference import Avoiding, denied, stand_in
from tests.fakes.model import FakeRuntime, FakeSession

GPU = Skipped("onnxruntime-cuda", "no driver")
NPU = Skipped("openvino", "is not installed")


def loaded(*skipped: Skipped, runtime: str = "onnxruntime") -> Loaded:
    return Loaded(FakeSession(), runtime, (), skipped=skipped)


def test_the_first_is_no_stand_in():
    assert stand_in(loaded(), None, 1.0, 1) is None
    assert stand_in(loaded(), stand_in(loaded(GPU), None, 1.0, 1), 2.0, 2) is None


def test_wanted_serves_why_since():
    found = stand_in(loaded(GPU), None, 1000.0, 5 * 10**9)
    assert found is not None
    assert found.as_dict(8 * 10**9) == {
        "wanted": "onnxruntime-cuda", "serves_on": "onnxruntime", "why": "no driver",
        "since": 1000.0, "for_s": 3.0,
    }  # fmt: skip
    both = stand_in(loaded(GPU, NPU), None, 1000.0, 0)
    assert both is not None
    assert both.why == "onnxruntime-cuda: no driver; openvino: is not installed"


def test_the_same_again_is_so_since_the_first_time():
    before = stand_in(loaded(GPU), None, 1000.0, 5)
    again = stand_in(loaded(Skipped("onnxruntime-cuda", "the GPU is gone")), before, 2000.0, 9)
    assert again is not None
    assert (again.since, again.since_ns, again.why) == (1000.0, 5, "the GPU is gone")
    other = stand_in(loaded(GPU, runtime="openvino"), again, 2000.0, 9)
    assert other is not None
    assert (other.since, other.since_ns) == (2000.0, 9)


def test_what_to_do_where_others_may_not():
    words = denied("it has no driver", "gate", ("onnxruntime-cuda", "openvino", "onnxruntime"))
    assert words == (
        "it has no driver; openvino, onnxruntime may not stand in (fallback: deny): put "
        "onnxruntime-cuda right, or set models.gate.fallback: allow"
    )


def test_a_runtime_that_is_to_be_left_out_says_why():
    made = FakeRuntime()
    create = Avoiding(lambda _: made, {"onnxruntime-cuda": "the GPU is gone"})
    assert create("onnxruntime") is made
    avoided = create("onnxruntime-cuda")
    assert (avoided.name, avoided.info().problem) == ("onnxruntime-cuda", "the GPU is gone")
    artefact = Artefact("gate", b"", (), ())
    assert avoided.estimate_bytes(artefact) == 0
    with pytest.raises(LoadError, match='model "gate": the GPU is gone'):
        avoided.load(artefact)
