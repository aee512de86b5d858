"""The configuration that lies beside a model of ONNX Runtime GenAI: ``genai_config.json``.

Decides what of it a bundle may say. The package follows more than that: it would load libraries
that a configuration names, read and write other files, and use other devices; so what is not known
here is refused, and the package is given what was understood and nothing else. No import of it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edged import decoding
from edged.errors import ManifestError

CONFIG = "genai_config.json"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt",
)  # fmt: skip
"""What else the package reads in the folder; data, all of it."""
NEEDED = "tokenizer.json"
"""The one of them that no text model goes without here."""
_KV_BYTES = 4
"""Of one number that is kept: float32, the widest that the package keeps."""

_Count = Annotated[int, Meta(ge=1, le=1 << 24)]
_Token = Annotated[int, Meta(ge=-1, le=1 << 24)]
_Name = Annotated[str, Meta(max_length=128)]


class _Part(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class SessionOptions(_Part, frozen=True):
    """Threads and providers are the daemon's to choose; what stands here is not followed."""

    log_id: _Name = ""
    provider_options: tuple[dict[str, Any], ...] = ()
    intra_op_num_threads: int = 0
    inter_op_num_threads: int = 0
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = True


class Inputs(_Part, frozen=True):
    """The model's names for what goes in."""

    input_ids: _Name
    attention_mask: _Name = ""
    position_ids: _Name = ""
    past_key_names: _Name = ""
    past_value_names: _Name = ""


class Outputs(_Part, frozen=True):
    """The model's names for what comes out."""

    logits: _Name
    present_key_names: _Name = ""
    present_value_names: _Name = ""


class Decoder(_Part, frozen=True):
    """The model file, and the sizes of what it keeps for each token."""

    filename: _Name
    head_size: _Count
    hidden_size: _Count
    num_attention_heads: _Count
    num_hidden_layers: _Count
    num_key_value_heads: _Count
    inputs: Inputs
    outputs: Outputs
    session_options: SessionOptions = SessionOptions()


class Model(_Part, frozen=True):
    """A decoder of text alone."""

    type: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}\Z")]
    context_length: _Count
    vocab_size: _Count
    decoder: Decoder
    eos_token_id: _Token | tuple[_Token, ...]
    bos_token_id: _Token | None = None
    pad_token_id: _Token | None = None


class Search(_Part, frozen=True):
    """How tokens were meant to be chosen; each request says that anew."""

    diversity_penalty: float = 0.0
    do_sample: bool = False
    early_stopping: bool = True
    length_penalty: float = 1.0
    max_length: int = 0
    min_length: int = 0
    no_repeat_ngram_size: int = 0
    num_beams: Annotated[int, Meta(ge=1, le=1)] = 1
    num_return_sequences: Annotated[int, Meta(ge=1, le=1)] = 1
    past_present_share_buffer: bool = True
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


class GenaiConfig(_Part, frozen=True):
    """The whole file."""

    model: Model
    search: Search = Search()

    @property
    def token_bytes(self) -> int:
        """What is kept for each token of a text that is being made, at most."""
        decoder = self.model.decoder
        heads = decoder.num_hidden_layers * decoder.num_key_value_heads
        return 2 * heads * decoder.head_size * _KV_BYTES

    def written(self, threads: int) -> bytes:
        """The file that the package is given.

        Args:
            threads: of one run.
        """
        document = msgspec.to_builtins(self)
        document["model"]["decoder"]["session_options"] = {
            "log_id": "edged",
            "provider_options": [],
            "intra_op_num_threads": threads,
            "inter_op_num_threads": 1,
            "log_severity_level": 4,
            # An arena would keep for good what one long prompt took between the layers.
            "enable_cpu_mem_arena": False,
            "session.intra_op.allow_spinning": "0",
            "session.inter_op.allow_spinning": "0",
        }
        document["search"] = {
            "max_length": self.model.context_length,
            "past_present_share_buffer": self.search.past_present_share_buffer,
        }
        return msgspec.json.encode(document)


def read_config(data: bytes, files: Collection[str]) -> GenaiConfig:
    """Read the file.

    Args:
        data: its bytes.
        files: names that lie beside it.

    Raises:
        ManifestError: names the field, and what was expected.
    """
    try:
        config = decoding.decode(data, GenaiConfig)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise ManifestError(
            f"{CONFIG}: {exc} (text models of one decoder are taken; export without other parts)"
        ) from exc
    model, decoder = config.model, config.model.decoder
    if decoder.session_options.provider_options:
        raise ManifestError(
            f"{CONFIG}: model.decoder.session_options.provider_options: names another device; "
            "text is made on the CPU: export the model for cpu"
        )
    if decoder.filename not in files:
        raise ManifestError(
            f'{CONFIG}: model.decoder.filename: "{decoder.filename}" does not lie beside it'
        )
    if NEEDED not in files:
        raise ManifestError(f"{NEEDED} is missing: without it no text becomes tokens")
    if decoder.num_attention_heads % decoder.num_key_value_heads:
        raise ManifestError(
            f"{CONFIG}: model.decoder.num_key_value_heads: {decoder.num_key_value_heads} does not "
            f"divide the {decoder.num_attention_heads} heads"
        )
    if model.context_length * config.token_bytes > 1 << 40:
        raise ManifestError(
            f"{CONFIG}: model.context_length: {model.context_length} tokens would keep "
            f"{model.context_length * config.token_bytes >> 30} GiB each time"
        )
    return config
