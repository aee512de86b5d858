"""The log of what was activated."""

from __future__ import annotations

import zlib

from edged.store.activation import Record, encode, judge, read_log


def run_log(data: bytes) -> None:
    """Reading raises nothing; what was read, written again, says the same; it can be judged."""
    _log(data)
    texts = [line[9:] for line in data.split(b"\n")]
    _log(b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts))


def _log(data: bytes) -> None:
    history = read_log(data)
    again = read_log(b"".join(encode(record) for record in history.records()))
    assert again.damaged == 0
    for record in history.last.values():
        judge(record.digest, record.previous, record, {record.digest: True})
        judge(None, None, record, {})


def seed_log() -> list[bytes]:
    records = [
        Record(event="try", model="m", digest="a" * 64, current="b" * 64, previous="c" * 64),
        Record(event="good", model="m", digest="a" * 64),
        Record(event="bad", model="n", digest="d" * 64, attempts=3),
    ]
    return [b"".join(encode(record) for record in records), encode(records[0]), b""]
