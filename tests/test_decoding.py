"""JSON to structs, when several threads meet a struct for the first time at once."""

from __future__ import annotations

import threading

import msgspec
import pytest

from edged import decoding


class Inner(msgspec.Struct):
    name: str = ""


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    many: dict[str, Inner] = {}


def test_each_type_is_learnt_once_whoever_asks(monkeypatch: pytest.MonkeyPatch):
    made: list[object] = []
    busy = threading.Lock()
    real = msgspec.json.Decoder

    def slowly(kind: object) -> object:
        assert busy.acquire(blocking=False), "two threads learn of types at once"
        try:
            threading.Event().wait(0.05)
            made.append(kind)
            return real(kind)
        finally:
            busy.release()

    monkeypatch.setattr(msgspec.json, "Decoder", slowly)
    monkeypatch.setattr(decoding, "_decoders", {})
    found: list[object] = []
    ways = [
        lambda: decoding.decode(b'{"inner": {"name": "a"}}', Outer),
        lambda: decoding.decode(b'{"name": "b"}', Inner),
        lambda: decoding.convert({"inner": {"name": "c"}}, Outer),
    ]
    threads = [threading.Thread(target=lambda w=way: found.append(w())) for way in ways * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 9
    assert sorted(map(str, made)) == sorted(map(str, (Outer, Inner)))


def test_says_what_is_wrong():
    with pytest.raises(msgspec.ValidationError, match=r"\$\.inner\.name"):
        decoding.decode(b'{"inner": {"name": 1}}', Outer)
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        decoding.convert({"inner": {}, "other": 1}, Outer)
    assert decoding.convert({"name": "x"}, Inner, strict=False) == Inner("x")
