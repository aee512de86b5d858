"""What is asked of a model that makes texts, and how its answers travel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edged.errors import InvalidRequestError
from edged.generating import (
    PROMPT_CHARACTERS,
    Ask,
    Piece,
    read_request,
    request,
    tensors,
    text_of,
)


class TestRequest:
    def test_there_and_back(self):
        options = {
            "max_new_tokens": 5, "temperature": 0.5, "top_k": 3, "top_p": 0.9,
            "repetition_penalty": 1.1, "seed": 7, "stop": ("\n", "end"),
        }  # fmt: skip
        asked = request("die Pumpe läuft", **options)
        assert asked["request"].dtype == np.uint8
        assert read_request(asked["request"].tobytes()) == Ask("die Pumpe läuft", **options)

    def test_a_json_string_is_the_prompt(self):
        assert read_request(b'"so"') == Ask("so")

    def test_zeros_fill_up_a_row(self):
        assert read_request(b'{"prompt": "so"}\0\0') == Ask("so")

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            (b"so", r'm: "request" takes JSON like \{"prompt"'),
            (b"", "takes JSON"),
            (b'"\xff"', "takes JSON"),
            (b"[" * 100_000, "takes JSON"),
            (b'""', "a prompt of 0 characters"),
            (b"{}", "missing required field `prompt`"),
            (b'{"prompt": ""}', r"length >= 1 - at `\$.prompt`"),
            (b'{"prompt": 3}', r"`\$.prompt`"),
            (b'{"prompt": "a", "maximum": 3}', "unknown field `maximum`"),
            (b'{"prompt": "a", "max_new_tokens": 0}', r">= 1 - at `\$.max_new_tokens`"),
            (b'{"prompt": "a", "temperature": -1}', r"`\$.temperature`"),
            (b'{"prompt": "a", "temperature": 1e999}', r"temperature|out of range"),
            (b'{"prompt": "a", "top_p": 0}', r"`\$.top_p`"),
            (b'{"prompt": "a", "seed": 2147483648}', r"`\$.seed`"),
            (b'{"prompt": "a", "stop": ["x", ""]}', r"`\$.stop\[1\]`"),
            (json.dumps({"prompt": "a", "stop": ["x"] * 9}).encode(), r"length <= 8"),
            (json.dumps("x" * (PROMPT_CHARACTERS + 1)).encode(), "expected 1 to 1048576"),
            (json.dumps({"prompt": "x" * (PROMPT_CHARACTERS + 1)}).encode(), r"`\$.prompt`"),
        ],
    )
    def test_refused(self, document: bytes, words: str):
        with pytest.raises(InvalidRequestError, match=words):
            read_request(document, "m")

    def test_a_client_hears_of_its_mistake_at_once(self):
        with pytest.raises(InvalidRequestError, match="unknown field `tokens`"):
            request("so", tokens=3)


class TestTensors:
    def test_pieces_as_one(self):
        made = tensors([Piece("ä", 3), Piece("", 4), Piece("b", None, "eos")])
        assert text_of(made["text"]) == "äb"
        assert made["tokens"].tolist() == [3, 4]
        assert text_of(made["finish"]) == "eos"

    def test_nothing(self):
        made = tensors([])
        assert [array.shape for array in made.values()] == [(0,)] * 3
        assert made["tokens"].dtype == np.int32
