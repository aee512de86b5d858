"""Objects of the generate extension."""

from __future__ import annotations

import json

from edged import generating
from edged.errors import EdgedError
from edged.protocol import oip_generate
from edged.tensors import TensorSpec


def run_generate(data: bytes) -> None:
    """Whether the model makes texts in the first bit, then the body."""
    makes_text = bool(data[:1] and data[0] & 1)
    specs = generating.INPUTS if makes_text else GENERATE_SPECS
    try:
        asked = oip_generate.decode_generate(data[1:], specs, 4096, makes_text=makes_text)
    except EdgedError:
        return
    if makes_text:
        generating.read_request(asked.inputs[generating.REQUEST].tobytes())
    else:
        assert sum(array.nbytes for array in asked.inputs.values()) <= 4096
        assert set(asked.inputs) <= {spec.name for spec in specs}


GENERATE_SPECS = (
    TensorSpec("x", "float32", ("batch", 2)),
    TensorSpec("n", "int16", ()),
    TensorSpec("words", "string", ("batch", "count")),
)


def seed_generate() -> list[bytes]:
    numbers = {
        "id": "a",
        "x": [[1, 2.5]],
        "n": 3,
        "words": ["a", "b"],
        "parameters": {"timeout": 5},
    }
    text = {"text_input": "a", "max_tokens": 3, "stop_words": "", "parameters": {"top_p": 0.5}}
    return [bytes([at]) + json.dumps(one).encode() for at, one in enumerate((numbers, text))]
