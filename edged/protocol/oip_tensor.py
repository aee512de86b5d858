"""One tensor of the Open Inference Protocol: its bytes, or its elements in JSON, as an array.

Decides whether what was sent is a tensor of the datatype and shape that was said, and whether it
fits what one request may bring. Numbers in JSON become the dtype that the request says, and one
that does not fit is refused, not bent. Every transport of the protocol reads its tensors here.
Source: KServe ``inference_rest.md``; Triton's ``extension_binary_data.md``.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Any, Final

import msgspec
import numpy as np

from edged.errors import DecodeError, InvalidRequestError, TooLargeError
from edged.protocol.frames import Buffer
from edged.protocol.oip import BY_OIP
from edged.protocol.oip_shared import Memory, Place
from edged.strings import STRINGS_CAP, check_count, decode_strings, strings
from edged.tensors import Array, DType, aligned

Shape = tuple[int, ...]
RANK_CAP: Final = 8
BINARY_ONLY: Final = frozenset({"float16", "bfloat16"})
"""JSON has no form for them in the protocol."""
MOST_IN_JSON: Final = 1 << 21
"""Elements in JSON of one request: each takes the event loop 0.2 us and more. A frame with three
channels of 800 x 800 has fewer; what is larger comes as bytes, which take it nothing."""
_OF_A_LIST: Final = 4
_MOST_SLOW: Final = 1024
"""Numbers that take 20 us each and more: those near a float64's ends, and long ones."""
_SLOW_EXPONENT: Final = re.compile(rb"[eE][+-]?0*[1-9][0-9]{2}")
_SLOW_CHARACTERS: Final = 256
_KINDS: Final[dict[str, type]] = {"b": bool, "i": int, "u": int, "f": float, "O": str}


class Room:
    """What the tensors of one request may still take; JSON grows when it becomes tensors.

    Args:
        cap: bytes of all of them together.
    """

    __slots__ = ("bytes_left", "json_left", "strings_left")

    def __init__(self, cap: int) -> None:
        self.bytes_left = cap
        self.strings_left = STRINGS_CAP
        self.json_left = MOST_IN_JSON

    def check(self, name: str, size: int, datatype: str) -> None:
        """Refuse an input that is too large, before anything is made of it."""
        if size > self.bytes_left:
            raise TooLargeError(
                f'input "{name}": {size} bytes as {datatype}; the tensors of one request '
                f"may still take {self.bytes_left} (limits.max_request)"
            )

    def count_json(self, name: str, text: bytes, least: int) -> None:
        """Count elements in JSON, before anything is made of them.

        Args:
            name: of the input, for messages.
            text: the JSON.
            least: how many there are at least, see ``least_values``.
        """
        lists = text.count(b"[") - 1
        self.json_left -= least + _OF_A_LIST * lists
        if self.json_left < 0:
            raise TooLargeError(
                f'input "{name}": {least} elements in {lists + 1} lists of JSON; those of one '
                f"request may be {MOST_IN_JSON}, where a list within a list counts as "
                f"{_OF_A_LIST}: send it as binary data"
            )

    def take(self, array: Array) -> Array:
        """Count an input that was made."""
        self.bytes_left -= array.nbytes
        if array.dtype.hasobject:
            self.strings_left -= array.size
        return array


def dtype_named(name: str, datatype: str) -> DType:
    """An input's type, by the protocol's name for it; InvalidRequestError lists those served."""
    dtype = BY_OIP.get(datatype)
    if dtype is None:
        raise InvalidRequestError(
            f'input "{name}": datatype "{datatype[:32]}" is not served; there are: '
            + ", ".join(BY_OIP)
        )
    return dtype


def check_size(name: str, dtype: DType, shape: Shape, room: Room) -> int | None:
    """How many bytes a tensor takes; None for strings, which follows from no shape.

    Raises:
        TooLargeError: more than there is room for.
    """
    if dtype.name == "string":
        check_count(shape, f'input "{name}"', room.strings_left)
        return None
    size = math.prod(shape) * dtype.size_bytes
    room.check(name, size, dtype.oip)
    return size


def read_bytes(name: str, dtype: DType, shape: Shape, data: Buffer, room: Room) -> Array:
    """View bytes as a tensor; strings are copied out of them.

    Args:
        name: of the input, for messages.
        dtype: of its elements.
        shape: of the tensor; ``check_size`` has seen it, and its bytes where it is no strings.
        data: row-major and little-endian; each string behind its length in four bytes.
        room: what the request may still take; the tensor is counted.
    """
    if dtype.name == "string":
        where = f'input "{name}"'
        found, size = decode_strings(data, shape, where, room.strings_left)
        if left := memoryview(data).nbytes - size:
            raise InvalidRequestError(f"{where}: {left} bytes follow its last string")
        room.check(name, found.nbytes, dtype.oip)
        return room.take(found)
    array = aligned(np.frombuffer(data, dtype.numpy).reshape(shape))
    if dtype.name == "bool" and array.size and array.view(np.uint8).max() > 1:
        raise InvalidRequestError(f'input "{name}": a BOOL byte is 0 or 1')
    return room.take(array)


def read_place(
    name: str, dtype: DType, shape: Shape, at: tuple[Place, Memory], room: Room
) -> Array:
    """Copy a tensor out of shared memory; as ``read_bytes``."""
    place, memory = at
    size = check_size(name, dtype, shape, room)
    if size is None:
        room.check(name, place.size, dtype.oip)
    elif place.size != size:
        raise InvalidRequestError(
            f'input "{name}": shared_memory_byte_size is {place.size}, but {dtype.oip} of shape '
            f"{list(shape)} takes {size} bytes"
        )
    return read_bytes(name, dtype, shape, memory.read(place), room)


def read_json(name: str, dtype: DType, shape: Shape, data: msgspec.Raw, room: Room) -> Array:
    """Elements of a flat list, or of one nested as the shape says; counted as ``read_bytes``."""
    text = bytes(data)
    # Before anything is made of it, for each element is an object of Python's first. Lists that are
    # empty have commas between them, too.
    if (least := least_values(text, dtype)) > math.prod(max(axis, 1) for axis in shape):
        raise InvalidRequestError(
            f'input "{name}": data has at least {least} elements; its shape {list(shape)} has '
            f"{math.prod(shape)}"
        )
    room.count_json(name, text, least)
    array, depth = read_values(name, dtype, text, f"its shape {list(shape)}", len(shape))
    if array.size != math.prod(shape) or (depth > 1 and array.shape != shape):
        raise InvalidRequestError(
            f'input "{name}": data has {array.size} elements of shape {list(array.shape)}; '
            f"its shape {list(shape)} has {math.prod(shape)}"
        )
    if dtype.name == "string":
        array = strings([one.encode() for one in array.reshape(-1).tolist()], shape)
        room.check(name, array.nbytes, dtype.oip)
    return room.take(array.reshape(shape))


def read_values(name: str, dtype: DType, text: bytes, shown: str, rank: int) -> tuple[Array, int]:
    """Elements of a list, and how deep they are nested; nothing is counted.

    Args:
        name: of the input, for messages.
        dtype: of its elements; strings are Python's.
        text: the JSON.
        shown: what else it may be nested as, for messages.
        rank: how deep that is.
    """
    if dtype.name in BINARY_ONLY:
        raise InvalidRequestError(
            f'input "{name}": {dtype.oip} has no form in JSON; send it as binary data'
        )
    if dtype.numpy.kind != "O" and len(text) > _MOST_SLOW:
        _check_slow(name, text)
    depth = _depth(text)
    if depth not in (1, rank):
        raise InvalidRequestError(
            f'input "{name}": Unable to parse data: nested {depth} deep; expected a flat '
            f"list, or one nested as {shown}"
        )
    try:
        values = _list_decoder(_KINDS[dtype.numpy.kind], depth).decode(text)
        return _array(values, dtype), depth
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise DecodeError(f'input "{name}": Unable to parse data as {dtype.oip}: {exc}') from None


def least_values(text: bytes, dtype: DType) -> int:
    """How many elements a list in JSON has at least, seen without reading it; 0 of an empty one."""
    if dtype.name == "string":
        # A quotation mark within a string has a backslash before it; so may one that ends a string.
        return (text.count(b'"') - text.count(b'\\"')) // 2
    commas = text.count(b",")
    return commas + 1 if commas else 0


def _check_slow(name: str, text: bytes) -> None:
    """Refuse many numbers of which a few take as long as a million others."""
    slow = 0
    if text.count(b"e") + text.count(b"E") > _MOST_SLOW:
        slow = sum(1 for _ in itertools.islice(_SLOW_EXPONENT.finditer(text), _MOST_SLOW + 1))
    commas = np.flatnonzero(np.frombuffer(text, np.uint8) == ord(","))
    slow += int(np.count_nonzero(np.diff(commas, prepend=0, append=len(text)) > _SLOW_CHARACTERS))
    if slow > _MOST_SLOW:
        raise TooLargeError(
            f'input "{name}": more than {_MOST_SLOW} numbers with exponents beyond 99 or of more '
            f"than {_SLOW_CHARACTERS} characters in JSON; send it as binary data"
        )


def _depth(text: bytes) -> int:
    """How many lists the first element is in."""
    depth = 0
    for character in text[: 4 * RANK_CAP + 64]:
        if character == 0x5B:
            depth += 1
        elif character not in b" \t\r\n":
            break
    return depth


@functools.lru_cache(maxsize=64)
def _list_decoder(kind: type, depth: int) -> msgspec.json.Decoder[Any]:
    wanted: Any = kind
    for _ in range(depth):
        wanted = list[wanted]
    return msgspec.json.Decoder(wanted)


def _array(values: list[Any], dtype: DType) -> Array:
    """Raises ValueError or OverflowError for what the dtype cannot hold."""
    kind = dtype.numpy.kind
    if kind == "O":
        return np.array(values, object)
    if kind == "f":
        with np.errstate(over="ignore"):
            array = np.array(values, dtype.numpy)
        if not np.isfinite(array).all():
            raise ValueError("a number is out of range")
        return array
    wide = "?" if kind == "b" else "u8" if kind == "u" else "i8"
    array = np.array(values, wide)
    if kind != "b" and array.size:
        info = np.iinfo(dtype.numpy)
        if array.min() < info.min or array.max() > info.max:
            raise ValueError(f"a number is out of the range {info.min} to {info.max}")
    return array.astype(dtype.numpy)
