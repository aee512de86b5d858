"""Texts to what a language model takes: numbers of tokens, a mask, and types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edged.config.pipeline_text import TokensConfig
from edged.errors import FieldError
from edged.pipelines.expressions import MOST_GROWN
from edged.pipelines.step import Values, Work
from edged.pipelines.token_file import Encoded, TokenFile, open_token_file
from edged.tensors import BATCH, Array, Axis, TensorSpec

_MOST_BYTES = 256 << 10
"""Of one text. The package keeps some 200 bytes for each until they are cut: this takes 54 MB and
0.2 s on a thread. The models that look furthest see 8192 tokens, a tenth of it."""

_MOST_TOGETHER = 4 << 20
"""Of all texts of a request: no deadline ends a step that has begun, and these take some 3 s."""


def tokens_work(config: TokensConfig, file: Path) -> Work:
    """``ids``, ``mask`` and ``types``, int64[n,tokens].

    Args:
        config: the step's.
        file: the tokeniser's, absolute.

    Raises:
        FieldError: the file or the length cannot be used.
    """
    if config.max_bytes > _MOST_BYTES:
        raise FieldError("tokens.max_bytes", f"is {config.max_bytes}; the limit is {_MOST_BYTES}")
    if config.pad == "length" and config.multiple != 1:
        raise FieldError("tokens.multiple", "belongs to pad: longest")
    words = open_token_file(file, config.length, config.pair is not None)
    reads = {"from": config.from_} | ({"pair": config.pair} if config.pair is not None else {})

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        for name, spec in inputs.items():
            if spec.dtype != "uint8" or len(spec.shape) not in (1, 2) or spec.shape == (BATCH,):
                text = f"is {spec}; expected texts, uint8[n,characters] or uint8[characters]"
                raise FieldError(f"tokens.{name}", text)
            if spec.shape[:-1] != inputs["from"].shape[:-1]:
                text = f"is {spec}, which does not pair with {inputs['from']}"
                raise FieldError(f"tokens.{name}", text)
        rows = inputs["from"].shape[0] if len(inputs["from"].shape) == 2 else 1
        columns: Axis = words.length if config.pad == "length" else "*tokens"
        return [TensorSpec(name, "int64", (rows, columns)) for name in ("ids", "mask", "types")]

    def run(values: Values) -> Values:
        texts = texts_of(values["from"], config.max_bytes)
        pairs: Sequence[str | None] = [None] * len(texts)
        if "pair" in values:
            pairs = texts_of(values["pair"], config.max_bytes)
        # One by one: what the package keeps of a text beside its numbers is gone before the next.
        made = [
            words.encode(text, pair, is_special=config.special)
            for text, pair in zip(texts, pairs, strict=True)
        ]
        return _padded(made, words, config)

    return Work(reads, outputs, run, is_slow=True, takes_texts=("from", "pair"))


def texts_of(rows: Array, most: int) -> list[str]:
    """Texts out of rows of bytes; strict, so that a sender hears of what is cut or of another code.

    Raises:
        ValueError: one is too long or no UTF-8, and which; or all of them together are too long.
    """
    texts, together = [], 0
    for number, row in enumerate(np.atleast_2d(rows)):
        data = row.tobytes().rstrip(b"\0")
        together += len(data)
        if together > _MOST_TOGETHER:
            raise ValueError(f"texts of more than {_MOST_TOGETHER} bytes together; send them apart")
        if len(data) > most:
            text = f"text {number} has {len(data)} bytes; the limit is {most} (max_bytes)"
            raise ValueError(text)
        try:
            texts.append(data.decode("utf-8"))
        except UnicodeDecodeError as exc:
            raise ValueError(f"text {number} is not UTF-8 (byte {exc.start})") from exc
    return texts


def _padded(made: Sequence[Encoded], words: TokenFile, config: TokensConfig) -> dict[str, Array]:
    if config.pad == "length":
        width = words.length
    else:
        longest = max([1, *(len(one.ids) for one in made)])
        width = min(-(-longest // config.multiple) * config.multiple, words.length)
    if len(made) * width > MOST_GROWN:
        text = f"would make [{len(made)},{width}] tokens; the limit is {MOST_GROWN} in all"
        raise ValueError(f"{text}; send fewer rows at a time")
    shape = (len(made), width)
    ids = np.full(shape, words.pad_id, np.int64)
    types = np.full(shape, words.pad_type, np.int64)
    mask = np.zeros(shape, np.int64)
    for row, one in enumerate(made):
        count = len(one.ids)
        place = slice(width - count, width) if words.pads_left else slice(0, count)
        ids[row, place], types[row, place], mask[row, place] = one.ids, one.types, 1
    return {"ids": ids, "mask": mask, "types": types}
