"""Bodies of a known layout: packed, unpacked, and refused when they are of another one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import LocalProtocolError, TensorMismatchError
from edged.protocol.layout import BodyLayout
from edged.protocol.prepared_runs import RunHead, encode_run
from edged.tensors import DTYPES, TensorSpec

GATE = BodyLayout([TensorSpec("x", "float32", ("batch", 3)), TensorSpec("on", "bool", ("batch",))])


def tensors(rows: int) -> dict[str, np.ndarray]:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return {"x": x, "on": np.arange(rows) % 2 == 0}


class TestPack:
    """What a caller gives is held against the layout before anything is sent."""

    @pytest.mark.parametrize(
        "given_",
        [
            {},
            {"x": tensors(2)["x"]},
            {**tensors(2), "more": np.ones(1)},
            {**tensors(2), "x": np.ones((2, 4), np.float32)},
            {**tensors(2), "x": np.ones((2, 3))},
            {**tensors(2), "x": np.ones((3, 3), np.float32)},
            {**tensors(2), "x": np.float32(1)},
            {"x": np.ones((0, 3), np.float32), "on": np.ones(0, bool)},
        ],
        ids=["none", "missing", "more", "shape", "dtype", "rows", "scalar", "no rows"],
    )
    def test_other_arrays_than_prepared(self, given_: dict):
        head = RunHead(1, GATE.rows_of(given_), 0)
        with pytest.raises(TensorMismatchError, match=r'prepared for "x" float32\[batch,3\], "on"'):
            encode_run(1, head, GATE, given_)

    def test_a_layout_leaves_only_the_batch_free(self):
        with pytest.raises(LocalProtocolError, match='only "batch" as a first axis may be free'):
            BodyLayout([TensorSpec("x", "int8", (2, "n"))])


class TestUnpack:
    @pytest.mark.parametrize("rows", [1, 2, 2000])
    def test_what_was_packed(self, rows: int):
        body, size = GATE.pack(tensors(rows), rows)
        data = b"".join(body)
        assert len(data) == size == GATE.body_bytes(rows)
        got = GATE.unpack(b"12345678" + data, 8, rows)
        for name, array in tensors(rows).items():
            np.testing.assert_array_equal(got[name], array)

    @given(
        st.integers(0, 2**32 - 1),
        st.lists(
            st.tuples(
                st.sampled_from(sorted(DTYPES)),
                st.booleans(),
                st.lists(st.integers(1, 9), max_size=3),
            ),
            max_size=4,
        ),
        st.binary(max_size=200),
    )
    @settings(max_examples=200, deadline=None)
    def test_only_our_errors_for_any_layout(self, rows: int, places: list, body: bytes):
        layout = BodyLayout(
            [
                TensorSpec(f"t{n}", dtype, (("batch",) if free else ()) + tuple(shape))
                for n, (dtype, free, shape) in enumerate(places)
            ]
        )
        try:
            got = layout.unpack(body, 0, rows)
        except TensorMismatchError:
            return
        assert layout.body_bytes(rows) == len(body)
        assert set(got) == {f"t{n}" for n in range(len(places))}
