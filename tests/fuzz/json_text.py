"""JSON, strictly."""

from __future__ import annotations

import json

import msgspec

from edged.errors import InvalidRequestError
from edged.processing.json_text import parse_json


def run_json(data: bytes) -> None:
    """What is accepted is what the standard parser reads, and can be written again."""
    try:
        found = parse_json(data)
    except InvalidRequestError:
        return
    assert repr(found) == repr(json.loads(data))


def seed_json() -> list[bytes]:
    tree = {"a": [1, -2.5e-3, "\u00fc\U0001f600", None, True, {"b": []}], "": {"c": '\\"/'}}
    return [
        json.dumps(tree).encode(),
        json.dumps(tree, ensure_ascii=False, indent=1).encode(),
        b"[" * 32 + b"]" * 32,
        b"1" * 400,
        msgspec.json.encode({str(number): number for number in range(40)}),
    ]
