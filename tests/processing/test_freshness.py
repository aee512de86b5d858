import json

import pytest

from edged.errors import DecodeError, StaleError
from edged.processing.freshness import fresh
from edged.processing.json_text import parse_json

NOW_S = 1_800_000_000.0


def parse(document, unit="s", field="ts", within_s=10.0):
    parser = fresh(parse_json, field, unit, within_s, lambda: NOW_S)
    return parser(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("s", NOW_S - 10),
        ("s", NOW_S + 10),
        ("ms", (NOW_S - 9) * 1e3),
        ("us", int(NOW_S - 9) * 10**6),
        ("ns", int(NOW_S - 9) * 10**9),
        ("iso", "2027-01-15T08:00:00Z"),
        ("iso", "2027-01-15T09:00:00+01:00"),
        ("iso", "2027-01-15T08:00:00.500000"),
    ],
)
def test_fresh(unit, value):
    assert parse({"ts": value}, unit) == {"ts": value}


@pytest.mark.parametrize(
    "document",
    [{"ts": NOW_S - 10.1}, [{"ts": NOW_S}, {"ts": NOW_S - 11}], {"ts": 0}, {"ts": -1e300}],
)
def test_stale(document):
    with pytest.raises(StaleError, match="s old"):
        parse(document)


@pytest.mark.parametrize(
    ("document", "unit", "why"),
    [
        ({}, "s", "is missing"),
        ([{"ts": NOW_S}, {}], "s", "row 1"),
        ({"ts": None}, "s", "is missing"),
        (7, "s", "is missing"),
        ({"ts": "now"}, "s", "expected a number"),
        ({"ts": True}, "s", "expected a number"),
        ({"ts": 10**350}, "s", "no time"),
        ({"ts": NOW_S}, "iso", "expected a time"),
        ({"ts": "yesterday"}, "iso", "expected a time"),
        ({"ts": "Z"}, "iso", "expected a time"),
        ({"ts": NOW_S + 11}, "s", "ahead"),
    ],
)
def test_refused(document, unit, why):
    with pytest.raises(DecodeError, match=why):
        parse(document, unit)


def test_a_path():
    assert parse({"meta": {"at": NOW_S}}, field="meta.at")
    assert parse({"meta.at": NOW_S}, field="meta.at")
