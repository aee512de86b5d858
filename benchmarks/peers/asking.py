"""What is asked of a peer, in the form that it reads, and how a right answer is known. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

INPUT, OUTPUT, MODEL = "x", "probabilities", "tiny"
_NUMBERS = re.compile(rb"\[[-+0-9.eE,\s\[\]]*\]")
"""A list of numbers, or of lists of them, as any JSON encoder writes it."""


@dataclass(frozen=True)
class Form:
    """How a request is written.

    Args:
        path: of the URL.
        kind: ``binary`` and ``json`` are those of the Open Inference Protocol; ``named`` is
            ``{"x": [[…]]}``; ``inputs`` is that below ``inputs``.
    """

    path: str
    kind: str


OIP_BINARY = Form(f"/v2/models/{MODEL}/infer", "binary")
OIP_JSON = Form(f"/v2/models/{MODEL}/infer", "json")


def request(form: Form, row: np.ndarray[Any, Any]) -> bytes:
    """A whole HTTP request for one row.

    Args:
        form: what the server reads.
        row: float32[1, N].
    """
    tensor: dict[str, Any] = {"name": INPUT, "shape": list(row.shape), "datatype": "FP32"}
    more = ""
    if form.kind == "binary":
        tensor["parameters"] = {"binary_data_size": row.nbytes}
        output = {"name": OUTPUT, "parameters": {"binary_data": True}}
        head = _text({"id": "1", "inputs": [tensor], "outputs": [output]})
        body = head + row.tobytes()
        more = f"Inference-Header-Content-Length: {len(head)}\r\n"
    elif form.kind == "json":
        tensor["data"] = row.ravel().tolist()
        body = _text({"id": "1", "inputs": [tensor], "outputs": [{"name": OUTPUT}]})
    elif form.kind == "named":
        body = _text({INPUT: row.tolist()})
    elif form.kind == "inputs":
        body = _text({"inputs": {INPUT: row.tolist()}})
    else:
        raise ValueError(f"form {form.kind}: expected binary, json, named or inputs")
    what = "octet-stream" if form.kind == "binary" else "json"
    return (
        f"POST {form.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/{what}\r\n"
        f"{more}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def wanted(body: bytes, values: np.ndarray[Any, Any]) -> bytes:
    """The part of a body that is the right answer, as this server writes it.

    Args:
        body: of an answer.
        values: float32, what ONNX Runtime alone gives.

    Raises:
        ValueError: the right numbers are not in it.
    """
    raw = values.tobytes()
    if raw in body:
        return raw
    for text in _lists(body):
        numbers = np.ravel(json.loads(text))
        if numbers.size == values.size and np.allclose(numbers, values.ravel(), 1e-5, 1e-6):
            return text
    raise ValueError(f"expected {values.ravel().tolist()} in the answer, got {body[:300]!r}")


def _lists(body: bytes) -> Iterator[bytes]:
    """Every whole list of numbers, the outermost ones."""
    for match in _NUMBERS.finditer(body):
        text, depth = match[0], 0
        for at, letter in enumerate(text):
            depth += {91: 1, 93: -1}.get(letter, 0)
            if depth == 0:
                try:
                    json.loads(text[: at + 1])
                except ValueError:
                    break
                yield text[: at + 1]
                break
