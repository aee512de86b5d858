"""What births explain, byte by byte, and when a node is asked for another one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import DecodeError, EdgedError
from edged.protocol import sparkplug_births
from edged.protocol.sparkplug import DataType, Metric, encode_sparkplug, parse_sparkplug
from edged.protocol.sparkplug_births import MOST_BIRTH_BYTES, PATIENCE_S, Births, birth_filters

NBIRTH, NDATA = "spBv1.0/g/NBIRTH/n", "spBv1.0/g/NDATA/n"
DBIRTH, DDATA = "spBv1.0/g/DBIRTH/n/d", "spBv1.0/g/DDATA/n/d"


def born(*metrics):
    return encode_sparkplug([Metric(*one) for one in metrics], 9, 0)


BORN = born(("t", DataType.DOUBLE, 1.5, 1), ("n", DataType.INT64, -7, 2))
BY_ALIAS = bytes.fromhex(
    "0809 120b 1001 69 000000000000f03f 1208 1002 58 f9ffffff0f".replace(" ", "")
)
"""At 9: alias 1 is the double 1.0, and alias 2 a long."""


class Rig:
    def __init__(self):
        self.asked, self.at_s = [], 0.0
        self.births = Births(self.asked.append, lambda: self.at_s)

    def refused(self, topic, payload=BY_ALIAS):
        with pytest.raises(DecodeError) as found:
            self.births.named(topic, payload)
        return found.value.message


@pytest.mark.parametrize(("birth", "data"), [(NBIRTH, NDATA), (DBIRTH, DDATA)])
def test_an_alias_becomes_its_name_and_a_number_its_type(birth, data):
    rig = Rig()
    assert rig.births.hears(birth, BORN)
    named = rig.births.named(data, BY_ALIAS[:15])
    assert parse_sparkplug(named) == {"t": 1.0, "timestamp": 9}
    data_by_name = b"\x12\x0e\x0a\x01n\x58" + b"\xf9" + b"\xff" * 8 + b"\x01"
    with pytest.raises(DecodeError, match="may be negative"):
        parse_sparkplug(data_by_name)
    assert parse_sparkplug(rig.births.named(data, data_by_name)) == {"n": -7}
    assert rig.asked == []


def test_what_needs_no_birth_is_left_as_it_is():
    rig = Rig()
    plain = encode_sparkplug([Metric("t", DataType.DOUBLE, 1.5)], 9, 3)
    assert rig.births.named(DDATA, plain) is plain
    assert rig.births.named("plant/1", b"\xff") == b"\xff"


def test_who_is_unknown_is_asked_once_in_a_while():
    rig = Rig()
    assert "no birth of 'g/n/d' explains the alias 1; its node is asked" in rig.refused(DDATA)
    (question,) = rig.asked
    assert (question.topic, question.qos, question.retain) == ("spBv1.0/g/NCMD/n", 0, False)
    assert parse_sparkplug(question.payload)["Node Control/Rebirth"] is True
    assert "was asked for one already" in rig.refused(NDATA)
    rig.at_s += PATIENCE_S
    rig.refused(DDATA)
    assert len(rig.asked) == 2


def test_a_whole_site_is_not_asked_at_once():
    rig = Rig()
    for number in range(100):
        rig.refused(f"spBv1.0/g/NDATA/{number}")
    assert len(rig.asked) == 10
    rig.at_s += 1
    for number in range(100):
        rig.refused(f"spBv1.0/g/NDATA/{number}")
    assert len(rig.asked) == 20
    assert rig.births.stats()["unknown"] == 200


def test_a_node_that_is_born_again_takes_its_devices_with_it():
    rig = Rig()
    rig.births.hears(NBIRTH, BORN), rig.births.hears(DBIRTH, BORN)
    rig.births.hears("spBv1.0/g/DBIRTH/other/d", BORN)
    rig.births.hears(NBIRTH, born(("x", DataType.DOUBLE, 1.5, 1)))
    assert parse_sparkplug(rig.births.named(NDATA, BY_ALIAS[:15]))["x"] == 1.0
    assert "alias 1" in rig.refused(DDATA)
    assert rig.births.stats() == {"births": 2, "metrics": 3, "unknown": 1, "rebirths": 1}


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(sparkplug_births, "MOST_METRICS", 5)
    rig = Rig()
    for number in range(9):
        rig.births.hears(f"spBv1.0/g/NBIRTH/{number}", BORN)
    assert (rig.births.stats()["births"], rig.births.stats()["metrics"]) == (2, 4)
    rig.births.named("spBv1.0/g/NDATA/8", BY_ALIAS[:15])
    rig.refused("spBv1.0/g/NDATA/0")


def aliases_of_one_name(count):
    parts = (b"\x0a\x01t\x10" + bytes((128 | n & 127, n >> 7)) for n in range(count))
    return b"".join(b"\x12" + bytes((len(part),)) + part for part in parts)


@pytest.mark.parametrize(
    "birth",
    [aliases_of_one_name(100), born(("x" * 12_800, DataType.DOUBLE, 1.5, 1)), b""],
    ids=["many aliases of one name", "one long name", "nothing"],
)
def test_births_of_few_metrics_are_bounded_too(monkeypatch, birth):
    monkeypatch.setattr(sparkplug_births, "MOST_METRICS", 100)
    rig = Rig()
    for number in range(101):
        rig.births.hears(f"spBv1.0/g/NBIRTH/{number}", birth)
    stats = rig.births.stats()
    assert stats["births"] == (100 if not birth else 1)
    assert stats["metrics"] <= 100


def test_what_is_forgotten_leaves_nothing():
    rig = Rig()
    for number in range(3):
        rig.births.hears(f"spBv1.0/g/DBIRTH/n/{number}", BORN)
    rig.births.hears(NBIRTH, b"\xff")
    assert rig.births.stats() == {"births": 0, "metrics": 0, "unknown": 0, "rebirths": 0}
    assert not rig.births._by_node


@pytest.mark.parametrize("payload", [b"\xff", bytes(MOST_BIRTH_BYTES + 1)])
def test_a_birth_that_cannot_be_read_explains_nothing_any_more(payload):
    rig = Rig()
    rig.births.hears(NBIRTH, BORN)
    assert rig.births.hears(NBIRTH, payload)
    rig.refused(NDATA)


@pytest.mark.parametrize(
    ("source", "filters"),
    [
        ("spBv1.0/+/DDATA/+/+", ("spBv1.0/+/NBIRTH/+", "spBv1.0/+/DBIRTH/+/+")),
        ("spBv1.0/g/DDATA/n/d", ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/d")),
        ("spBv1.0/g/NDATA/n", ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/+")),
        ("spBv1.0/g/DDATA/#", ("spBv1.0/g/NBIRTH/+", "spBv1.0/g/DBIRTH/+/+")),
        ("spBv1.0/#", ("spBv1.0/+/NBIRTH/+", "spBv1.0/+/DBIRTH/+/+")),
        ("plant/x", ()),
        ("#", ()),
    ],
)
def test_where_births_are_heard(source, filters):
    assert birth_filters(source) == filters


@given(st.sampled_from([NBIRTH, NDATA, DBIRTH, DDATA]), st.binary(max_size=80))
def test_any_bytes_end_in_a_payload_or_our_errors(topic, data):
    births = Births()
    births.hears(NBIRTH, BORN)
    try:
        births.named(topic, data)
    except EdgedError:
        return


# What pysparkplug 0.6.1 makes of t/1 (Float 1.5), n (Int16 -7), on (Boolean true) and s (String x)
# at 9, with aliases 1 to 4: at birth, by name and alias, and by alias alone. Data has no types.
THEIR_BIRTH = bytes.fromhex(
    "080912100a03742f31100118092009650000c03f120d0a016e10021809200250f9ff03120c0a026f6e1003180920"
    "0b7001120c0a017310041809200c7a01781800"
)
THEIR_DATA = bytes.fromhex(
    "0809120e0a03742f3110011809650000c03f120b0a016e1002180950f9ff03120a0a026f6e100318097001120a0a"
    "0173100418097a01781803"
)
THEIR_ALIASES = bytes.fromhex(
    "0809120910011809650000c03f12081002180950f9ff0312061003180970011207100418097a01781804"
)


@pytest.mark.parametrize("payload", [THEIR_DATA, THEIR_ALIASES])
def test_what_another_library_writes(payload):
    births = Births()
    births.hears(NBIRTH, THEIR_BIRTH)
    expected = {"t/1": 1.5, "n": -7, "on": True, "s": "x", "timestamp": 9}
    assert parse_sparkplug(births.named(NDATA, payload)) == expected
