"""Text that a model makes: what is asked of it, what it gives, and how both travel as tensors.

One request is one JSON document, so that whoever can send bytes can ask: ``{"prompt": "…"}`` with
options beside it, or the prompt alone as a JSON string. Decides what is a request at all; what an
operator allows of it is ``Caps``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from edged.errors import InvalidRequestError
from edged.tensors import Array, TensorSpec

REQUEST, TEXT, TOKENS, FINISH = "request", "text", "tokens", "finish"
INPUTS = (TensorSpec(REQUEST, "uint8", ("characters",)),)
OUTPUTS = (
    TensorSpec(TEXT, "uint8", ("bytes",)),
    TensorSpec(TOKENS, "int32", ("count",)),
    TensorSpec(FINISH, "uint8", ("letters",)),
)
"""The signature of every model that makes text."""

CAPS = "caps"
"""What goes with a request to a worker: the numbers of Caps."""
KIND = "genai"
"""Of its artefacts in a bundle."""
PROMPT_CHARACTERS = 1 << 20
"""More than any context holds; what is longer is refused before it is cut into tokens."""
_STOPS, _STOP_CHARACTERS = 8, 256
"""Each is looked for in all that is made, after every token."""

EOS, STOP, LENGTH = "eos", "stop", "length"
"""Why a text ended: the model said so, a stop text came, or the tokens allowed were used up."""


class Ask(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked.

    Args:
        prompt: what the text goes on from.
        max_new_tokens: most tokens to make; None for as many as the operator allows.
        temperature: 0 takes the likeliest token each time; above, tokens are drawn.
        top_k: draw among so many of the likeliest only; 0 for all.
        top_p: draw among the likeliest only that have so much probability together.
        repetition_penalty: above 1, what was said already is less likely.
        seed: of the drawing; the same gives the same text. None for another one each time.
        stop: texts at which it ends; they are not part of what is given.
    """

    prompt: Annotated[str, Meta(min_length=1, max_length=PROMPT_CHARACTERS)]
    max_new_tokens: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.0
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=_STOP_CHARACTERS)], ...],
        Meta(max_length=_STOPS),
    ] = ()


class Caps(NamedTuple):
    """What an operator allows of one request.

    Args:
        max_new_tokens: a request that asks for more, or for none in particular, gets so many.
        max_prompt_tokens: a longer prompt is refused.
    """

    max_new_tokens: int
    max_prompt_tokens: int


UNCAPPED = Caps(1 << 20, 1 << 20)
"""The model's own context is the only bound: for golden samples."""


class Piece(NamedTuple):
    """A step of a text.

    Args:
        text: what can be shown now; empty while a character or a stop text may be half there.
        token: the number that was made; None where the model said that it is done.
        finish: why it ended; empty while it goes on.
    """

    text: str
    token: int | None
    finish: str = ""


_decoder = msgspec.json.Decoder(Ask | str)


def request(prompt: str, **options: Any) -> dict[str, Array]:
    """The tensor of a request, for clients.

        client.infer("story", generating.request("the pump is", max_new_tokens=40))

    Args:
        prompt: what the text goes on from.
        **options: as the fields of Ask.

    Raises:
        InvalidRequestError: an option that is none, or out of its bounds.
    """
    data = msgspec.json.encode({"prompt": prompt, **options})
    read_request(data)
    return {REQUEST: np.frombuffer(data, np.uint8)}


def read_request(data: bytes, owner: str = "request") -> Ask:
    """Read a request.

    Args:
        data: the bytes of the input; zeros after them fill up a row.
        owner: who was asked, for messages.

    Raises:
        InvalidRequestError: no JSON, or another document than is wanted; names the field.
    """
    try:
        found = _decoder.decode(data.rstrip(b"\0"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(
            f'{owner}: "{REQUEST}" takes JSON like {{"prompt": "…", "max_new_tokens": 64}}, or a '
            f"JSON string: {exc}"
        ) from exc
    if isinstance(found, Ask):
        return found
    if not 0 < len(found) <= PROMPT_CHARACTERS:
        raise InvalidRequestError(
            f"{owner}: a prompt of {len(found)} characters; expected 1 to {PROMPT_CHARACTERS}"
        )
    return Ask(found)


def tensors(pieces: Iterable[Piece]) -> dict[str, Array]:
    """Steps of a text as outputs: what was made, and why it ended where one of them says so."""
    text, tokens, finish = [], [], ""
    for piece in pieces:
        text.append(piece.text)
        if piece.token is not None:
            tokens.append(piece.token)
        finish = finish or piece.finish
    return {
        TEXT: _bytes("".join(text)),
        TOKENS: np.array(tokens, np.int32),
        FINISH: _bytes(finish),
    }


def text_of(array: Array) -> str:
    """What an output says."""
    return array.tobytes().decode("utf-8", "replace")


def _bytes(text: str) -> Array:
    return np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
