"""The protocol's system shared memory: what a request says of places in memory that has a name.

Decides what a place is and what belongs together; ``Memory`` is what looks at memory itself.
Source: Triton's ``extension_shared_memory.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Meta, Struct

from edged.errors import DecodeError, DeniedError, InvalidRequestError
from edged.protocol.frames import Buffer

Parameters = Mapping[str, bool | int | float | str]

REGION: Final = "shared_memory_region"
SIZE: Final = "shared_memory_byte_size"
OFFSET: Final = "shared_memory_offset"
NAME_CAP: Final = 256
KEY_CAP: Final = 255
"""Of a file's name on Linux."""
_MOST: Final = 2**63 - 1
OFF: Final = (
    "shared memory by name is off here (listen.shared_memory in the configuration); send the tensor"
)


class Place(NamedTuple):
    """Bytes of a region.

    Args:
        region: its name.
        offset: of the first of them, in the region.
        size: how many there are.
    """

    region: str
    offset: int
    size: int


class Region(NamedTuple):
    """Memory that was registered.

    Args:
        name: as requests call it.
        key: as the system calls it, as it was given.
        offset: where the region begins in it.
        size: bytes of the region.
    """

    name: str
    key: str
    offset: int
    size: int


class Memory(Protocol):
    """The regions of one client; each method raises EdgedError for what cannot be had."""

    def register(self, region: Region) -> None:
        """Take note of a region."""
        ...

    def unregister(self, name: str | None) -> None:
        """Forget a region, or all; one that is not there is no mistake."""
        ...

    def status(self, name: str | None) -> list[Region]:
        """One region, or all."""
        ...

    def read(self, place: Place) -> Buffer:
        """A copy of the bytes of a place."""
        ...

    def write(self, place: Place, data: Buffer) -> None:
        """Write from the beginning of a place on."""
        ...


def place_of(parameters: Parameters, where: str) -> Place | None:
    """The place that parameters name; None where they name none.

    Args:
        parameters: of an input or an output.
        where: which one, for messages; e.g. ``input "x"``.
    """
    name = parameters.get(REGION)
    if name is None:
        return None
    if type(name) is not str or not 0 < len(name) <= NAME_CAP:
        raise InvalidRequestError(
            f"{where}: {REGION} is no name of 1 to {NAME_CAP} characters; expected that of a "
            "region that was registered"
        )
    size = parameters.get(SIZE)
    if size is None:
        raise InvalidRequestError(f"{where}: {REGION} without {SIZE}; expected both")
    return Place(
        name, _number(parameters.get(OFFSET, 0), OFFSET, where), _number(size, SIZE, where)
    )


def _number(value: object, name: str, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise InvalidRequestError(f"{where}: {name} is {value!r}; expected a number from 0")
    return value


def needed(memory: Memory | None) -> Memory:
    """The memory; DeniedError where there is none."""
    if memory is None:
        raise DeniedError(OFF)
    return memory


def region_of(found: Mapping[str, Any]) -> Region:
    """What is to be registered, as a message of gRPC has it.

    Raises:
        InvalidRequestError: says which field, and what was expected.
    """
    name, key, size = found.get("name", ""), found.get("key", ""), found.get("byte_size", 0)
    if not 0 < len(name) <= NAME_CAP:
        raise InvalidRequestError(f"name has {len(name)} characters; expected 1 to {NAME_CAP}")
    if not 0 < len(key) <= KEY_CAP + 1:
        raise InvalidRequestError(f"key has {len(key)} characters; expected 1 to {KEY_CAP + 1}")
    if not size:
        raise InvalidRequestError("byte_size is 0; expected a number from 1")
    offset = _number(found.get("offset", 0), "offset", "the region")
    return Region(name, key, offset, _number(size, "byte_size", "the region"))


class _Register(Struct, frozen=True):
    key: Annotated[str, Meta(min_length=1, max_length=KEY_CAP + 1)]
    byte_size: Annotated[int, Meta(ge=1, le=_MOST)]
    offset: Annotated[int, Meta(ge=0, le=_MOST)] = 0


_decoder = msgspec.json.Decoder(_Register)


def decode_register(name: str, body: Buffer) -> Region:
    """Read what is to be registered under a name.

    Raises:
        InvalidRequestError: says which member, and what was expected.
    """
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None
    return Region(name, found.key, found.offset, found.byte_size)


def status_document(regions: list[Region]) -> list[dict[str, object]]:
    """Regions as the protocol writes them in JSON."""
    return [
        {"name": one.name, "key": one.key, "offset": one.offset, "byte_size": one.size}
        for one in regions
    ]


def parameters_at(place: Place, size: int) -> dict[str, object]:
    """What an answer says of an output that was written to a place."""
    # Triton's C++ client looks for a size of what is behind the JSON wherever there are parameters.
    found: dict[str, object] = {REGION: place.region, SIZE: size, "binary_data_size": 0}
    return {**found, OFFSET: place.offset} if place.offset else found
