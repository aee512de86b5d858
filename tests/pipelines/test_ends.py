"""Head and tail of bytes: as Python's own slices and strips say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.pipeline_text import EndsConfig
from edged.errors import FieldError
from edged.pipelines.ends import ends_work
from edged.tensors import TensorSpec

DATA = st.binary(min_size=1, max_size=60) | st.text("ab \t\n\r\v\f", min_size=1).map(str.encode)


def ends(data: bytes, **fields) -> list[int]:
    work = ends_work(EndsConfig(from_="x", **fields))
    (made,) = work.run({"from": np.frombuffer(data, np.uint8)}).values()
    (spec,) = work.outputs({"from": TensorSpec("from", "uint8", ("length",))})
    assert str(spec) == f"int32[1,{made.shape[1]}]"
    assert made.dtype == np.int32
    assert made.shape[0] == 1
    return made[0].tolist()


def test_short_and_long():
    assert ends(b"abc", head=4, tail=4, pad=256) == [97, 98, 99, 256, 256, 97, 98, 99]
    assert ends(b"abcdef", head=2, tail=1) == [97, 98, 102]
    assert ends(b"abc", head=0, tail=2) == [98, 99]
    assert ends(b" a ", head=2, tail=2, strip=True, pad=-1) == [97, 32, 32, 97]
    assert ends(b"  ", head=1, tail=1, strip=True, pad=-1) == [-1, -1]


@given(DATA, st.integers(1, 20), st.integers(0, 20), st.integers(20, 40), st.booleans())
def test_any_bytes(data: bytes, head: int, tail: int, block: int, strip: bool):
    first, last = data[:block], data[-block:]
    if strip:
        first, last = first.lstrip(), last.rstrip()
    wanted = list(first[:head]) + [256] * (head - len(first))
    wanted += [256] * (tail - len(last)) + list(last[max(len(last) - tail, 0) :])
    assert ends(data, head=head, tail=tail, block=block, strip=strip, pad=256) == wanted


def test_refused():
    with pytest.raises(FieldError, match=r"ends\.head: and tail are 0"):
        ends_work(EndsConfig(from_="x", head=0))
    with pytest.raises(FieldError, match=r"ends\.block: is 3, less than head or tail"):
        ends_work(EndsConfig(from_="x", head=2, tail=4, block=3))
    work = ends_work(EndsConfig(from_="x", head=2))
    for spec in (("uint8", ("batch", "n")), ("int8", ("n",))):
        with pytest.raises(FieldError, match=r"ends\.from: .*expected bytes, uint8\[length\]"):
            work.outputs({"from": TensorSpec("from", *spec)})
