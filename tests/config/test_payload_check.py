import pytest

from edged.config.binding import BindingConfig
from edged.config.payload import MaxAgeConfig, ProtobufConfig
from edged.config.payload_check import payload_problems
from edged.specs import Duration

SCHEMA = ProtobufConfig(descriptors="x.desc", message="a.B")
AGE = MaxAgeConfig(field="ts", within=Duration(10**9))


def problems(**words):
    binding = BindingConfig(name="b", from_="in", to="out", model="m", **words)
    return [where.removeprefix("b.") for where, _ in payload_problems(binding, "b")]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"codec": "auto", "fields": ("a",)},
        {"codec": "auto", "accept": ("json", "tensor"), "compression": "gzip"},
        {"codec": "protobuf", "schema": SCHEMA, "fields": ("a",), "max_age": AGE},
        {"codec": "raw", "compression": "zstd"},
        {"codec": "image", "compression": "auto"},
    ],
)
def test_good(words):
    assert problems(**words) == []


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ({"codec": "raw", "fields": ("a",)}, ["fields"]),
        ({"codec": "auto", "accept": ("json", "raw"), "fields": ("a",)}, ["accept"]),
        ({"accept": ("json",)}, ["accept"]),
        ({"codec": "auto", "accept": ("json", "json")}, ["accept"]),
        ({"codec": "protobuf"}, ["codec"]),
        ({"schema": SCHEMA}, ["schema"]),
        ({"codec": "raw", "compression": "auto"}, ["compression"]),
        ({"codec": "auto", "accept": ("raw",), "compression": "auto"}, ["compression"]),
        ({"codec": "tensor", "max_age": AGE}, ["max_age"]),
        ({"max_age": MaxAgeConfig(field="t", within=Duration(1))}, ["max_age.within"]),
    ],
)
def test_refused(words, where):
    assert problems(**words) == where
