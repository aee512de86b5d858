"""One kept engine: of what and for where it was built, sealed by the device that built it.

Decides whether a file of the cache is an engine that this device made of this very model for what
it is now; says what is wrong otherwise. Pure bytes: nothing is deserialised, no file is opened.
The bytes: ``EDGEDCAC``, a version, the length of the record, the seal over the record, the record
as JSON, the engine's file.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from edged import decoding
from edged.engines.seal import SEAL_BYTES, Seal
from edged.errors import LoadError
from edged.runtimes.engine import BuildOptions, Engine, Host, decode, differences, sha256

_MAGIC = b"EDGEDCAC"
_FORMAT = 1
_FIXED = 16 + SEAL_BYTES
HEAD_CAP_BYTES = 64 << 10
"""A record is a page; what is longer is none."""


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of what an engine is built, and how.

    Args:
        bundle: digest of the bundle's manifest.
        onnx_sha256: of the model file.
        precision: what the bundle calls the file's.
        options: of the build.
    """

    bundle: str
    onnx_sha256: str
    precision: str
    options: BuildOptions


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is sealed.

    Args:
        source: of what it was built.
        host: for where.
        engine_sha256: of the engine's file, whose head has that of the plan.
        engine_bytes: its size.
        model: the model's name, for people.
        built_at: seconds since 1970 by the device's clock, for people.
    """

    source: Source
    host: Host
    engine_sha256: str
    engine_bytes: int
    model: str = ""
    built_at: int = 0


class Refusal(NamedTuple):
    """Why a file of the cache is not used.

    Args:
        kind: ``file`` (a link, another's, readable by others), ``form``, ``seal``, ``other``
            (built of or for something else) or ``changed``; counted by it.
        why: for people.
    """

    kind: str
    why: str


def encode_entry(seal: Seal, record: Record, engine_file: bytes) -> list[bytes]:
    """The bytes of an entry, in parts."""
    head = msgspec.json.encode(record, order="deterministic")
    start = _MAGIC + _FORMAT.to_bytes(4, "little") + len(head).to_bytes(4, "little")
    return [start, seal.make(head), head, engine_file]


def make_record(source: Source, engine: Engine, data: bytes, model: str, built_at: int) -> Record:
    """The record of an engine that was just built."""
    return Record(
        source=source,
        host=engine.fingerprint.host,
        engine_sha256=sha256(data),
        engine_bytes=len(data),
        model=model,
        built_at=built_at,
    )


def read_record(seal: Seal, start: bytes) -> Record | Refusal:
    """The record of an entry, from its first bytes; believed only because of its seal.

    Args:
        seal: the device's.
        start: at least the fixed part and the record, or all there is.
    """
    if len(start) < _FIXED or not start.startswith(_MAGIC):
        return Refusal("form", "it is no file of the engine cache")
    number, length = (int.from_bytes(start[at : at + 4], "little") for at in (8, 12))
    if number != _FORMAT:
        return Refusal("form", f"it has format {number}; this edged reads {_FORMAT}")
    if length > HEAD_CAP_BYTES or len(start) < _FIXED + length:
        return Refusal("form", f"it is cut short: its record has {length} bytes")
    head = start[_FIXED : _FIXED + length]
    if not seal.holds(head, start[16:_FIXED]):
        return Refusal("seal", "its seal is not this device's: forged, or built elsewhere")
    try:
        return decoding.decode(head, Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        return Refusal("form", f"its record does not read: {exc}")


def open_entry(seal: Seal, source: Source, host: Host, data: bytes) -> bytes | Refusal:
    """The engine's file out of an entry, for those who asked for exactly this.

    Args:
        seal: the device's.
        source: of what it must have been built.
        host: what this device is now.
        data: the whole entry.
    """
    record = read_record(seal, data)
    if isinstance(record, Refusal):
        return record
    if other := differences(record.host, host):
        return Refusal("other", f"it was built for {'; '.join(other)}")
    if record.source != source:
        names = Source.__struct_fields__
        wrong = [name for name in names if getattr(record.source, name) != getattr(source, name)]
        return Refusal("other", f"it was built of another {', '.join(wrong)}")
    length = int.from_bytes(data[12:16], "little")
    engine_file = data[_FIXED + length :]
    if len(engine_file) != record.engine_bytes or sha256(engine_file) != record.engine_sha256:
        return Refusal("changed", "its bytes are not those that were sealed")
    try:
        engine = decode(engine_file)
    except LoadError as exc:
        return Refusal("changed", exc.message)
    inside = engine.fingerprint
    if inside.host != record.host or inside.onnx_sha256 != source.onnx_sha256:
        return Refusal("other", "the engine inside says that it is another than its record")
    return engine_file


def entry_name(source: Source, host: Host) -> str:
    """Where the engine of a source for a host lies; those of one source begin alike."""
    return f"{source_key(source)}-{_short(host)}.engine"


def source_key(source: Source) -> str:
    """What the names of all engines of a source begin with."""
    return _short(source)


def _short(what: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()[:32]
