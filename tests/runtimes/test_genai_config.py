"""What a bundle may say in genai_config.json, and what the package is given of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edged.errors import ManifestError
from edged.runtimes.genai_config import read_config

FILES = ("model.onnx", "tokenizer.json")


def document() -> dict[str, Any]:
    return {
        "model": {
            "type": "llama",
            "bos_token_id": 1,
            "eos_token_id": [2, 3],
            "vocab_size": 100,
            "context_length": 64,
            "decoder": {
                "filename": "model.onnx",
                "head_size": 16,
                "hidden_size": 64,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "num_hidden_layers": 3,
                "inputs": {"input_ids": "ids", "past_key_names": "past.%d.key"},
                "outputs": {"logits": "logits"},
                "session_options": {"log_id": "x", "provider_options": []},
            },
        },
        "search": {"max_length": 9, "temperature": 0.5},
    }


def read(change: Callable[[dict[str, Any]], object] = lambda _: None, files=FILES):
    made = document()
    change(made)
    return read_config(json.dumps(made).encode(), files)


def test_what_is_kept_for_each_token():
    assert read().token_bytes == 2 * 3 * 2 * 16 * 4


def test_what_the_package_is_given():
    """Names and sizes as they are; how to run and how to choose is not the bundle's to say."""
    given = json.loads(read().written(3))
    options = given["model"]["decoder"].pop("session_options")
    assert options["intra_op_num_threads"] == 3
    assert options["provider_options"] == []
    wanted = document()["model"]
    del wanted["decoder"]["session_options"]
    assert given["model"] == wanted
    assert given["search"] == {"max_length": 64, "past_present_share_buffer": True}


def decoder(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda made: made["model"]["decoder"].update(fields)


def options(**fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda made: made["model"]["decoder"]["session_options"].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (options(custom_ops_library="evil.so"), "unknown field `custom_ops_library`"),
        (options(enable_profiling="/tmp/out"), "unknown field `enable_profiling`"),
        (options(optimized_model_filepath="/x"), "unknown field `optimized_model_filepath`"),
        (options(config_entries={"ep.context_file_path": "/x"}), "unknown field"),
        (options(provider_options=[{"cuda": {}}]), "provider_options: names another device"),
        (decoder(filename="../model.onnx"), '"../model.onnx" does not lie beside it'),
        (decoder(filename="/etc/passwd"), "does not lie beside it"),
        (decoder(pipeline=[]), "unknown field `pipeline`"),
        (decoder(num_hidden_layers=0), r"`\$.model.decoder.num_hidden_layers`"),
        (decoder(num_key_value_heads=3), "3 does not divide the 4 heads"),
        (lambda made: made["model"].update(vision={}), "unknown field `vision`"),
        (lambda made: made["model"].update(context_length=1 << 24), None),
        (lambda made: made["model"].update(type="../x"), r"`\$.model.type`"),
        (lambda made: made["search"].update(num_beams=4), r"`\$.search.num_beams`"),
        (lambda made: made.update(more=1), "unknown field `more`"),
        (lambda made: made.pop("model"), "missing required field `model`"),
    ],
)
def test_refused(change: Callable[[dict[str, Any]], object], words: str | None):
    if words is None:
        assert read(change).model.context_length == 1 << 24
        return
    with pytest.raises(ManifestError, match=words):
        read(change)


def test_more_than_there_can_be_memory_for():
    def change(made: dict[str, Any]) -> None:
        made["model"]["context_length"] = 1 << 24
        made["model"]["decoder"].update(num_hidden_layers=1000, head_size=1024)

    with pytest.raises(ManifestError, match="context_length: 16777216 tokens would keep"):
        read(change)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"[]"])
def test_no_configuration(data: bytes):
    with pytest.raises(ManifestError, match=r"genai_config\.json"):
        read_config(data, FILES)


@pytest.mark.parametrize("missing", FILES)
def test_a_file_that_is_needed(missing: str):
    with pytest.raises(ManifestError, match=missing):
        read(files=[name for name in FILES if name != missing])
