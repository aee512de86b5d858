"""Make a folder as ONNX Runtime GenAI takes it: a decoder of the Llama kind with random weights.

    python -m converters.texts.example FOLDER

Its text means nothing; all else is as with a model that was trained: the folder's files, grouped
query attention with a cache of keys and values, rotary positions, a byte-level tokenizer. The same
arguments give the same weights, so greedy decoding gives the same text everywhere. Needs the
packages numpy and onnx.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper, save_model

_IR, _OPSET = 10, 21
_MERGES = ("t h", "i n", "e r", "th e", "a n", "o n", "r e", "Ġ a", "Ġ the", "i s", "u m", "p um")
"""Pairs of pieces that become one, the first first: as a tokenizer learns them from English."""
BOS, EOS = "<s>", "</s>"


class Size(NamedTuple):
    """How large a decoder is.

    Args:
        layers: blocks of attention and a gated two-layer network.
        heads: of the queries.
        kv_heads: of keys and values; divides ``heads``.
        head: numbers of one head; a multiple of 16 that the kernel of rotary positions takes.
        inner: width of the gated network.
        context: tokens of prompt and answer together.
    """

    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    inner: int = 128
    context: int = 512

    @property
    def width(self) -> int:
        """Numbers of one token between the blocks."""
        return self.heads * self.head


def make_folder(folder: Path, size: Size | None = None, *, seed: int = 7) -> None:
    """Write model, configuration and tokenizer.

    Args:
        folder: is made; files in it of the same names are replaced.
        size: of the decoder; None for one of 100,000 weights.
        seed: of the weights.
    """
    size = size or Size()
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizer(folder)
    builder = _Builder(size, len(vocabulary), np.random.default_rng(seed))
    model = builder.model()
    (folder / "model.onnx.data").unlink(missing_ok=True)  # else it would grow
    save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=1024,
    )
    config = _config(size, vocabulary)
    (folder / "genai_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _config(size: Size, vocabulary: dict[str, int]) -> dict[str, Any]:
    return {
        "model": {
            "type": "llama",
            "bos_token_id": vocabulary[BOS],
            "eos_token_id": vocabulary[EOS],
            "pad_token_id": vocabulary[EOS],
            "vocab_size": len(vocabulary),
            "context_length": size.context,
            "decoder": {
                "filename": "model.onnx",
                "hidden_size": size.width,
                "head_size": size.head,
                "num_attention_heads": size.heads,
                "num_key_value_heads": size.kv_heads,
                "num_hidden_layers": size.layers,
                "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": size.context,
            "min_length": 0,
            "num_beams": 1,
            "num_return_sequences": 1,
            "past_present_share_buffer": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
        },
    }


class _Builder:
    """One graph while it grows."""

    def __init__(self, size: Size, words: int, random: np.random.Generator) -> None:
        self.size, self.words, self._random = size, words, random
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def model(self) -> Any:
        """The whole: token ids, a mask and what was kept, to logits and what is kept."""
        size = self.size
        self._weight("embedding", (self.words, size.width), 1.0)
        self._add("Gather", ("embedding", "input_ids"), ("token",))
        self._lengths()
        self._positions()
        self._weight("norm.first", (size.width,), 0.0)
        self._add("SimplifiedLayerNormalization", ("token", "norm.first"), ("n.0",), _NORM)
        stream, normed = "token", "n.0"
        for layer in range(size.layers):
            stream, normed = self._block(layer, stream, normed)
        # As sure of itself as a model that was trained: most tokens lead by a lot.
        self._weight("head", (size.width, self.words), 4.0)
        self._plain("MatMul", (normed, "head"), "logits")
        mask = self._value("attention_mask", TensorProto.INT64, ("batch", "total"))
        ids = self._value("input_ids", TensorProto.INT64, ("batch", "new"))
        logits = self._value("logits", TensorProto.FLOAT, ("batch", "new", self.words))
        inputs, outputs = [ids, mask], [logits]
        for layer in range(size.layers):
            for what in ("key", "value"):
                past = ("batch", size.kv_heads, "past", size.head)
                kept = ("batch", size.kv_heads, "total", size.head)
                inputs.append(
                    self._value(f"past_key_values.{layer}.{what}", TensorProto.FLOAT, past)
                )
                outputs.append(self._value(f"present.{layer}.{what}", TensorProto.FLOAT, kept))
        graph = helper.make_graph(self._nodes, "decoder", inputs, outputs, self._weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, ir_version=_IR, opset_imports=opsets)

    def _block(self, layer: int, stream: str, normed: str) -> tuple[str, str]:
        size, at = self.size, f"layer.{layer}"
        kv = size.kv_heads * size.head
        query = self._matmul(normed, f"{at}.query", (size.width, size.width))
        key = self._matmul(normed, f"{at}.key", (size.width, kv))
        value = self._matmul(normed, f"{at}.value", (size.width, kv))
        past = (f"past_key_values.{layer}.key", f"past_key_values.{layer}.value")
        present = (f"present.{layer}.key", f"present.{layer}.value")
        self._add(
            "GroupQueryAttention",
            (query, key, value, *past, "seen", "total_length", "cosines", "sines"),
            (f"{at}.attention", *present),
            {"num_heads": size.heads, "kv_num_heads": size.kv_heads, "do_rotary": 1},
        )
        mixed = self._matmul(f"{at}.attention", f"{at}.mix", (size.width, size.width))
        stream, normed = self._skip(f"{at}.middle", stream, mixed)
        gate = self._matmul(normed, f"{at}.gate", (size.width, size.inner))
        up = self._matmul(normed, f"{at}.up", (size.width, size.inner))
        self._plain("Sigmoid", (gate,), f"{at}.open")
        self._plain("Mul", (gate, f"{at}.open"), f"{at}.silu")
        self._plain("Mul", (f"{at}.silu", up), f"{at}.gated")
        down = self._matmul(f"{at}.gated", f"{at}.down", (size.inner, size.width))
        return self._skip(f"{at}.last", stream, down)

    def _skip(self, name: str, stream: str, added: str) -> tuple[str, str]:
        self._weight(f"{name}.norm", (self.size.width,), 0.0)
        outputs = (f"{name}.normed", "", "", f"{name}.sum")
        inputs = (stream, added, f"{name}.norm")
        self._add("SkipSimplifiedLayerNormalization", inputs, outputs, {"epsilon": 1e-5})
        return outputs[3], outputs[0]

    def _lengths(self) -> None:
        """How many tokens each row has seen (less one), and how many the longest: as int32."""
        self._constant("one", np.array([1], np.int64))
        self._constant("which", np.array(1, np.int64))
        self._plain("ReduceSum", ("attention_mask", "one"), "counted", keepdims=0)
        self._plain("Sub", ("counted", "one"), "before")
        self._plain("Cast", ("before",), "seen", to=TensorProto.INT32)
        self._plain("Shape", ("attention_mask",), "shape")
        self._plain("Gather", ("shape", "which"), "long")
        self._plain("Cast", ("long",), "total_length", to=TensorProto.INT32)

    def _positions(self) -> None:
        half = self.size.head // 2
        turns = 10000.0 ** (-np.arange(half) / half)
        angles = np.arange(self.size.context)[:, None] * turns
        self._constant("cosines", np.cos(angles).astype(np.float32))
        self._constant("sines", np.sin(angles).astype(np.float32))

    def _matmul(self, left: str, name: str, shape: tuple[int, int]) -> str:
        out = f"{name}.out"
        self._weight(name, shape, 1.0)
        self._plain("MatMul", (left, name), out)
        return out

    def _weight(self, name: str, shape: tuple[int, ...], spread: float) -> None:
        """Random, so that a sum of as many keeps its size; ``spread`` 0 is all ones."""
        if spread:
            deviation = spread / np.sqrt(shape[0]) if name != "embedding" else spread
            values = self._random.normal(0, deviation, shape).astype(np.float32)
        else:
            values = np.ones(shape, np.float32)
        self._constant(name, values)

    def _constant(self, name: str, values: npt.NDArray[Any]) -> None:
        self._weights.append(numpy_helper.from_array(values, name))

    def _plain(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def _add(
        self,
        kind: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attributes: dict[str, Any] | None = None,
    ) -> None:
        domain = "com.microsoft" if kind.startswith(("Group", "Skip")) else ""
        node = helper.make_node(kind, inputs, outputs, domain=domain, **(attributes or {}))
        self._nodes.append(node)

    @staticmethod
    def _value(name: str, kind: int, shape: tuple[str | int, ...]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)


_NORM = {"epsilon": 1e-5, "axis": -1, "stash_type": 1}


def _characters() -> list[str]:
    """For each byte the character that byte-level tokenizers write it as."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def _write_tokenizer(folder: Path) -> dict[str, int]:
    pieces = [*_characters(), *(merge.replace(" ", "") for merge in _MERGES)]
    plain = {piece: number for number, piece in enumerate(pieces)}
    special = {BOS: len(pieces), EOS: len(pieces) + 1}
    shape = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    marks = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": word, **marks, "special": True}
            for word, number in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **shape},
        "post_processor": {"type": "ByteLevel", **shape},
        "decoder": {"type": "ByteLevel", **shape},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": plain,
            "merges": list(_MERGES),
        },
    }
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": BOS,
        "eos_token": EOS,
        "unk_token": EOS,
        "add_prefix_space": False,
        "add_bos_token": False,
        "model_max_length": 512,
    }
    for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
        text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
        (folder / name).write_text(text, "utf-8")
    return plain | special


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a decoder with random weights.")
    parser.add_argument("folder", type=Path)
    make_folder(parser.parse_args().folder)
