"""One kept engine as bytes: what differs from what was sealed is refused, with the reason."""

from __future__ import annotations

import msgspec
import pytest

from edged.engines.entry import (
    Refusal,
    Source,
    encode_entry,
    entry_name,
    make_record,
    open_entry,
    read_record,
    source_key,
)
from edged.engines.seal import Seal
from edged.runtimes.engine import BuildOptions, sha256
from tests.runtimes.test_engine import HOST, engine

SEAL = Seal(b"k" * 32)
SOURCE = Source(
    bundle="ab" * 32, onnx_sha256=sha256(b"onnx"), precision="float16", options=BuildOptions()
)


def entry(seal=SEAL, source=SOURCE, made=None):
    made = made or engine()
    data = made.encode()
    return b"".join(encode_entry(seal, make_record(source, made, data, "m", 7), data))


def test_there_and_back():
    assert open_entry(SEAL, SOURCE, HOST, entry()) == engine().encode()
    record = read_record(SEAL, entry())
    assert not isinstance(record, Refusal)
    assert (record.source, record.host, record.model, record.built_at) == (SOURCE, HOST, "m", 7)


def test_no_single_bit_can_be_changed():
    data = entry()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        assert isinstance(open_entry(SEAL, SOURCE, HOST, bytes(changed)), Refusal), at


def test_no_length_but_its_own_is_taken():
    data = entry()
    for length in range(len(data)):
        assert isinstance(open_entry(SEAL, SOURCE, HOST, data[:length]), Refusal), length
    assert isinstance(open_entry(SEAL, SOURCE, HOST, data + b"\0"), Refusal)


def test_the_seal_of_another_device_is_none():
    refusal = open_entry(SEAL, SOURCE, HOST, entry(Seal(b"x" * 32)))
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "seal"


@pytest.mark.hostile("G14 an engine for another GPU or version")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tensorrt", "10.16.1"),
        ("compute_capability", "8.9"),
        ("system", "Linux x86_64"),
        ("driver", "541"),
        ("gpu", "Orin Nano"),
        ("processors", 8),
        ("l4t", "36.4.4"),
    ],
)
def test_one_for_another_host_is_refused_and_says_what_differs(field, value):
    refusal = open_entry(SEAL, SOURCE, msgspec.structs.replace(HOST, **{field: value}), entry())
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "other"
    assert str(value) in refusal.why


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bundle", "cd" * 32),
        ("onnx_sha256", sha256(b"another")),
        ("precision", "int8"),
        ("options", BuildOptions(max_batch=2)),
    ],
)
def test_one_of_another_source_is_refused(field, value):
    asked = msgspec.structs.replace(SOURCE, **{field: value})
    refusal = open_entry(SEAL, asked, HOST, entry())
    assert refusal == Refusal("other", f"it was built of another {field}")
    assert entry_name(asked, HOST) != entry_name(SOURCE, HOST)


def test_an_engine_that_says_itself_that_it_is_another_is_refused():
    """Sealed by us: a fault of ours, and still no reason to run it."""
    made = engine()
    other = msgspec.structs.replace(made.fingerprint, onnx_sha256=sha256(b"another"))
    wrong = msgspec.structs.replace(made, fingerprint=other)
    refusal = open_entry(SEAL, SOURCE, HOST, entry(made=wrong))
    assert isinstance(refusal, Refusal)
    assert "than its record" in refusal.why


def test_engines_of_one_source_lie_together():
    other = msgspec.structs.replace(HOST, driver="541")
    assert entry_name(SOURCE, other) != entry_name(SOURCE, HOST)
    assert entry_name(SOURCE, other).startswith(source_key(SOURCE))


def test_a_record_that_is_too_long_is_none():
    start = entry()[:12] + (1 << 30).to_bytes(4, "little") + entry()[16:]
    refusal = read_record(SEAL, start)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "form"
