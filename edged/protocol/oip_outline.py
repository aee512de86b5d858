"""What a long JSON has beside its tensors, weighed before anything of it is made an object.

A request's names, shapes and parameters are short; a body with a million of them would keep the
event loop busy for seconds. So one that is long is first read for where its tensors are, which
makes one object for each, and what is left is weighed. Pure.
Source: SECURITY.md R9, every list that comes from a peer has a cap that is checked beforehand.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from edged.errors import DecodeError, TooLargeError
from edged.protocol.frames import Buffer

MOST_TENSORS: Final = 64
"""Inputs, and outputs, of one request."""
SHORT_BYTES: Final = 32 << 10
"""What is as short takes a tenth of a second at worst; 64 inputs with names of 256 are shorter."""


class _Data(Struct, frozen=True):
    data: msgspec.Raw = msgspec.Raw()


# A list with a place for each that may be there: the decoder ends at the one that is too many,
# where a list with a length is read whole before it is counted.
_Inputs = msgspec.defstruct(
    "_Inputs",
    [(f"input{at}", _Data, _Data()) for at in range(MOST_TENSORS)],
    frozen=True,
    array_like=True,
    forbid_unknown_fields=True,
)
_Outline = msgspec.defstruct("_Outline", [("inputs", _Inputs, _Inputs())], frozen=True)
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Outline)


def check_outline(text: Buffer) -> None:
    """Go on where a request's JSON is short beside the data of its inputs.

    Args:
        text: the JSON.

    Raises:
        TooLargeError: it is not.
        DecodeError: it is no JSON, or has more inputs than may be.
    """
    size = memoryview(text).nbytes
    if size <= SHORT_BYTES:
        return
    try:
        found = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None
    inputs = msgspec.structs.astuple(found.inputs)
    if (rest := size - sum(memoryview(one.data).nbytes for one in inputs)) > SHORT_BYTES:
        raise TooLargeError(
            f"the JSON has {rest} bytes beside the data of its inputs; names, shapes and "
            f"parameters together may have {SHORT_BYTES}"
        )


def check_short(text: Buffer) -> None:
    """Go on where a request that brings no tensors is short; raises TooLargeError."""
    if (size := memoryview(text).nbytes) > SHORT_BYTES:
        raise TooLargeError(
            f"the request has {size} bytes; without tensors it may have {SHORT_BYTES}"
        )
