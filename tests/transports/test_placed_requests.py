"""INFER, STREAM and STEP whose tensors lie in lent memory, over a real socket, and ill will."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edged.protocol import memory
from edged.protocol.conversation import ANSWER_LIMITS
from edged.protocol.frames import Frame, Kind, encode_frame
from edged.protocol.native import decode_response
from tests.fakes.house import LOOPS, House, Peer, houses
from tests.fakes.lender import floats, lent, message_of
from tests.fakes.wire import joined

MIB = 1 << 20
NUMBERS = np.arange(2048, dtype=np.float32)
Connect = Callable[[], Peer]


@pytest.fixture(params=LOOPS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    for made in houses(request.param, tmp_path / "s"):
        made.start()
        yield made


@pytest.fixture
def client(house: House) -> Iterator[Peer]:
    made = Peer(house.path)
    yield made
    made.close()


def asks(
    *tensors: list[Any], kind: Kind = Kind.INFER, number: int = 7, body: bytes = b"", more: Any = ()
) -> bytes:
    head = msgspec.msgpack.encode(["m", None, list(tensors), [], 0, *more])
    return joined(encode_frame(kind, number, head, [body] if body else []))


def x(region: Any, offset: Any = 0, shape: Any = (1, 2048), dtype: str = "float32") -> list[Any]:
    return ["x", dtype, list(shape), [region, offset]]


def outputs(frame: Frame) -> dict[str, np.ndarray]:
    assert frame.kind == Kind.RESULT, message_of(frame)
    return dict(decode_response(frame, "m", ANSWER_LIMITS).outputs)


def test_a_tensor_of_a_region(client: Peer):
    region, mine = lent(client, MIB)
    for number, offset in enumerate((0, 64, 4, MIB - 8192), 1):
        floats(mine, 2048, offset)[:] = NUMBERS * number
        client.send(asks(x(region, offset)))
        np.testing.assert_array_equal(outputs(client.frame())["x"], [NUMBERS * number])


def test_beside_tensors_of_the_body(client: Peer):
    region, mine = lent(client, MIB)
    floats(mine, 2048)[:] = NUMBERS
    first, last = np.float32([1, 2]), np.float32([3, 4])
    tensors = ["a", "float32", [2]], x(region), ["b", "float32", [2]]
    client.send(asks(*tensors, body=first.tobytes() + last.tobytes()))
    found = outputs(client.frame())
    np.testing.assert_array_equal(found["x"], [NUMBERS])
    assert (found["a"].tolist(), found["b"].tolist()) == ([1, 2], [3, 4])


def test_it_is_a_copy(house: House, client: Peer):
    """What its owner writes afterwards is not seen: it may be indices that were checked."""
    region, mine = lent(client, MIB)
    floats(mine, 2048)[:] = NUMBERS
    house.door.is_holding = True
    client.send(asks(x(region)))
    client.send(asks(x(region), number=8))
    while len(house.door.held) < 2:
        house.call(lambda: None)
    floats(mine, 2048)[:] = -1
    client.send(joined(memory.encode_recall(region)))
    house.call(house.door.release_all)
    for _ in range(2):
        np.testing.assert_array_equal(outputs(client.frame())["x"], [NUMBERS])


@pytest.mark.hostile("D2 an offset or a length that overflows")
@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (x(1, MIB - 8191), "are not all in region 1"),
        (x(1, -1), "are not all in region 1"),
        (x(1, 2**63 - 1), "are not all in region 1"),
        (x(1, 2**64 - 32), "are not all in region 1"),
        (x(2), "no region 2 is lent"),
        (x(-1), "no region -1 is lent"),
        (x(1, shape=(2**31, 2**31, 2**31)), "may still take"),
        (x(1, shape=(2**40,)), "may still take"),
        (x(1, shape=(-1,)), "none negative"),
        (x(1, dtype="string"), "strings come in the body"),
        (x(1, dtype="object"), "unknown dtype"),
        (["x", "float32", [1], [1]], "malformed head"),
        (["x", "float32", [1], 1], "malformed head"),
        (["x", "float32", [1], ["1", 0]], "malformed head"),
    ],
)
def test_places_that_are_none(client: Peer, tensor: list[Any], words: str):
    lent(client, MIB)
    client.send(asks(tensor))
    frame = client.frame()
    assert (frame.kind, words in message_of(frame)) == (Kind.ERROR, True), message_of(frame)
    client.send(asks(x(1)))
    assert outputs(client.frame())["x"].shape == (1, 2048), "the connection is as good as before"


def test_where_nothing_is_lent(client: Peer):
    client.send(asks(x(1)))
    assert "none is lent here" in message_of(client.frame())


def test_bytes_beside_a_place(client: Peer):
    region, _ = lent(client, MIB)
    client.send(asks(x(region), body=bytes(8192)))
    assert "the body has 8192 bytes" in message_of(client.frame())


def test_of_anothers_region(house: House, client: Peer):
    lent(client, MIB)
    other = Peer(house.path)
    own, mine = lent(other, MIB)
    floats(mine, 2048)[:] = NUMBERS
    # Numbers are each connection's own: this is its own region, and there is no second.
    other.send(asks(x(own)))
    np.testing.assert_array_equal(outputs(other.frame())["x"], [NUMBERS])
    other.send(asks(x(own + 1)))
    assert "no region" in message_of(other.frame())
    other.close()


def test_one_region_named_again_and_again_is_not_more_than_a_body(house: House, client: Peer):
    limits, rows = house.server.limits, 4 * MIB // 8192
    region, _ = lent(client, 4 * MIB)
    count = limits.body_bytes // (4 * MIB) + 1
    assert count <= limits.tensors
    client.send(asks(*([f"x{at}", "float32", [rows, 2048], [region, 0]] for at in range(count))))
    assert "may still take" in message_of(client.frame())


def test_a_bool_that_is_none(client: Peer):
    region, mine = lent(client, MIB)
    mine[0] = 7
    client.send(asks(x(region, dtype="bool", shape=(1,))))
    assert "is not one of 0 and 1" in message_of(client.frame())


def test_steps_and_streams(client: Peer):
    region, mine = lent(client, MIB)
    floats(mine, 2048)[:] = NUMBERS
    client.send(asks(x(region), kind=Kind.STEP, more=(3, True, False)))
    np.testing.assert_array_equal(outputs(client.frame())["x"], [NUMBERS])
    client.send(asks(x(region), kind=Kind.STREAM, number=9, more=(4,)))
    np.testing.assert_array_equal(outputs(client.frame())["x"], [NUMBERS])
