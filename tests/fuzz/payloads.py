"""Payloads of devices, for every codec of rows."""

from __future__ import annotations

from functools import cache

import numpy as np

from edged.errors import InvalidRequestError
from edged.processing.codecs import build_codec
from edged.processing.columns import ColumnsCodec
from edged.specs import FeaturesInput, WordColumn
from edged.tensors import check_tensors
from tests.fakes.manifests import make_manifest as bare_manifest

_TABLE = bare_manifest([("x", "float32", ("batch", 2))])


_NAMED = bare_manifest(
    [("x", "float32", ("batch", 2))], input_processing={"x": FeaturesInput(names=("a b", "c.0"))}
)


_WORDED = bare_manifest(
    [("x", "float32", ("batch", 2))],
    input_processing={
        "x": FeaturesInput(("a", "b"), {"b": WordColumn(("red", "grün"), missing=2)})
    },
)


_TWO = bare_manifest([("x", "float32", ("batch", "time")), ("n", "int64", ("batch", 1))])


_FLAGS = bare_manifest([("x", "bool", ("batch", 2, 2))])


@cache
def _codecs() -> list[tuple[object, object]]:
    def make(codec, manifest):
        return build_codec(codec, manifest, input_name=None, fields=()), manifest

    table = ColumnsCodec([(_TABLE.input_specs()[0], ("p.q", "r"))])
    return [
        make("json", _TABLE),
        make("json", _NAMED),
        make("json", _WORDED),
        make("json", _TWO),
        make("json", _FLAGS),
        make("raw", _TABLE),
        make("raw", _FLAGS),
        (table, _TABLE),
    ]


def run_payload(data: bytes) -> None:
    """The first byte picks a codec; what is accepted fits the model."""
    if not data:
        return
    codec, manifest = _codecs()[data[0] % len(_codecs())]
    try:
        tensors = codec.decode(data[1:])
    except InvalidRequestError:
        return
    check_tensors(manifest.input_specs(), tensors, "m")


def seed_payloads() -> list[bytes]:
    payloads = [
        b"[[1, 2.5], [-3e2, 4]]",
        b'{"a b": 1, "c": [true]}',
        '[{"a": 1, "b": "grün"}, {"a": 2, "b": null}]'.encode(),
        b'{"inputs": {"x": [[1, 2]], "n": [[9007199254740993]]}}',
        b"[[[true, false], [0, 1]]]",
        np.ones((2, 2), np.float32).tobytes(),
        bytes([0, 1, 1, 0]),
        b'[{"p": {"q": 1}, "r": null}, {"p": {"q": "\\u0041"}, "r": 2}]',
    ]
    return [bytes([number]) + payload for number, payload in enumerate(payloads)]
