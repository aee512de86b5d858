"""What a caller may ask, and how what cannot be asked is said."""

from __future__ import annotations

import numpy as np
import pytest

from edged.errors import (
    InvalidRequestError,
    TensorMismatchError,
)
from edged.protocol import asking
from edged.protocol.asking import Plan
from edged.tensors import TensorSpec


class TestLayouts:
    def test_what_a_caller_writes(self):
        request = asking.prepare_request(
            "m", {"no word": ((3, 4), np.uint8)}, {"x": ((None, 64), "float32")}, 3, ["y"]
        )
        assert request.inputs == (
            TensorSpec("no word", "uint8", (3, 4)),
            TensorSpec("x", "float32", ("batch", 64)),
        )
        assert (request.model, request.release, request.outputs) == ("m", 3, ("y",))

    @pytest.mark.parametrize(
        ("layout", "message"),
        [
            ("float32", r"expected \(shape, dtype\)"),
            (((None, 2),), r"expected \(shape, dtype\)"),
            ((5, "int8"), r"expected \(shape, dtype\)"),
            (((None, 2), "flout32"), r"expected \(shape, dtype\)"),
            (((2, None), "int8"), "None for the first axis"),
            (((0, 2), "int8"), "numbers from 1"),
            (((2, -1), "int8"), "numbers from 1"),
            (((2,), "complex64"), "a prepared call carries"),
        ],
        ids=str,
    )
    def test_what_is_no_layout(self, layout: object, message: str):
        with pytest.raises(InvalidRequestError, match=f'"x".*{message}'):
            asking.prepare_request("m", None, {"x": layout}, None, ())

    def test_a_text_for_outputs_is_no_list_of_letters(self):
        for ask in (
            lambda: asking.prepare_request("m", None, {}, None, "scores"),
            lambda: asking.infer_request("m", None, {}, None, "scores"),
        ):
            with pytest.raises(InvalidRequestError, match=r'expected a list .* \["scores"\]'):
                ask()
        assert asking.infer_request("m", None, {}, None, ["a", "b"]).outputs == ("a", "b")

    def test_arrays_by_position(self):
        layouts = {"x": ((None, 2), "int8"), "z": ((), "int64")}
        plan = Plan(asking.prepare_request("m", None, layouts, None, ()))
        x, z = np.ones((3, 2), np.int8), np.int64(5)
        assert list(plan.by_position((x, z))) == ["x", "z"]
        with pytest.raises(InvalidRequestError, match="1 arrays; this call was prepared for x, z"):
            plan.by_position((x,))
        assert plan.frame(1, {"x": x, "z": z}, 0, 9)
        with pytest.raises(InvalidRequestError, match='"x" is a list; expected a NumPy array'):
            plan.frame(1, {"x": [[1, 2]], "z": z}, 0, 9)
        with pytest.raises(TensorMismatchError, match="prepared for"):
            plan.frame(1, {"x": x}, 0, 9)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e30])
def test_a_timeout_that_is_none(seconds: float):
    with pytest.raises(InvalidRequestError, match="timeout"):
        asking.timeout_us(seconds)


def test_timeouts():
    assert [asking.timeout_us(seconds) for seconds in (None, 0, 1e-9, 1.5)] == [0, 1, 1, 1_500_000]
