"""Words of bundles and configurations: times, sizes, and what they refuse."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.specs import (
    MODEL_NAME,
    Duration,
    FeaturesInput,
    ImageInput,
    InputProcessing,
    OutputSpec,
    Size,
    size_words,
)

ModelName = Annotated[str, msgspec.Meta(pattern=MODEL_NAME)]
DURATIONS = {
    "200ms": 200_000_000,
    "1.5s": 1_500_000_000,
    "2min": 120_000_000_000,
    "24h": 86_400_000_000_000,
    "200us": 200_000,
    "7ns": 7,
    "0s": 0,
    "0.1 s": 100_000_000,
    0: 0,
}
SIZES = {"64MiB": 64 << 20, "1.5KiB": 1536, "500kB": 500_000, "2GiB": 2 << 30, "10B": 10, 0: 0}
NO_DURATION = [
    "", "5", "s", "-1s", "1e3s", "1,5s", "five s", "1 m", "1d", "1S", "5 MiB", "1s ", " 1s", "1s2s",
    "\u0661s", "9" * 40 + "s", "nan s", "inf s", 5, 1.5, True, False, None, [], "0x1s", "1_0s", "1.s",
]  # fmt: skip
NO_SIZE = ["64 mib", "64Mib", "1TB", "64", 64, True, False, "-1B", "5s", None]


@pytest.mark.parametrize("text", DURATIONS)
def test_duration(text: object):
    assert Duration.parse(text) == DURATIONS[text]
    assert isinstance(Duration.parse(text), Duration)


@pytest.mark.parametrize("text", SIZES)
def test_size(text: object):
    assert Size.parse(text) == SIZES[text]


@pytest.mark.parametrize("text", NO_DURATION, ids=repr)
def test_no_duration(text: object):
    with pytest.raises(ValueError, match=r'a number with a unit like "200ms" \(units: ns, us, ms'):
        Duration.parse(text)


@pytest.mark.parametrize("text", NO_SIZE, ids=repr)
def test_no_size(text: object):
    with pytest.raises(ValueError, match=r'a number with a unit like "64MiB" \(units: B, KiB'):
        Size.parse(text)


@given(st.text(max_size=12) | st.floats() | st.integers() | st.booleans())
def test_only_value_errors(text: object):
    for kind in (Duration, Size):
        with contextlib.suppress(ValueError):
            assert kind.parse(text) >= 0


@given(st.integers(0, 10**9 - 1), st.sampled_from(["ns", "us", "ms", "s"]))
def test_whole_numbers_are_exact(number: int, unit: str):
    factor = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}[unit]
    assert Duration.parse(f"{number}{unit}") == number * factor


def test_seconds():
    assert math.isclose(Duration.parse("250ms").seconds, 0.25)


@pytest.mark.parametrize("name", ["gate", "G", "a.b-c_d", "9", "x" * 64])
def test_model_name(name: str):
    assert re.search(MODEL_NAME, name)


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, ".hidden", "-x", "../x", "a/b", "a b", "a#", "a+", "\u0430", "a\0", "a\n"],
)
def test_no_model_name(name: str):
    """A name is an MQTT level and a key; it can be neither a path nor a filter."""
    assert not re.search(MODEL_NAME, name)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(name), type=ModelName)


class TestProcessing:
    def decode(self, text: str, kind: type = InputProcessing) -> object:
        return msgspec.json.decode(text.encode(), type=kind)

    def test_kinds(self):
        image = self.decode('{"kind":"image","width":8,"height":9,"mode":"L","layout":"flat"}')
        assert image == ImageInput(8, 9, "L", "flat")
        features = self.decode('{"kind":"features","names":["a","b"]}')
        assert features == FeaturesInput(("a", "b"))

    @pytest.mark.parametrize(
        "text",
        [
            '{"kind":"audio"}',
            '{"width":8,"height":9}',
            '{"kind":"image","width":0,"height":9}',
            '{"kind":"image","width":99999,"height":9}',
            '{"kind":"image","width":8,"height":9,"mode":"CMYK"}',
            '{"kind":"image","width":8,"height":9,"code":"import os"}',
            '{"kind":"features","names":[]}',
        ],
    )
    def test_refused(self, text: str):
        with pytest.raises(msgspec.ValidationError):
            self.decode(text)

    def test_output_spec_bounds(self):
        assert self.decode("{}", OutputSpec) == OutputSpec()
        for text in ('{"top_k":-1}', '{"top_k":1001}', '{"activation":"relu"}', '{"topk":1}'):
            with pytest.raises(msgspec.ValidationError):
                self.decode(text, OutputSpec)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (13_000, "13 KiB"),
        ((1 << 20) - 1, "1024 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 29, "2.5 GiB"),
    ],
)
def test_sizes_for_people(size: int, words: str):
    assert size_words(size) == words
