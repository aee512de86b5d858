"""Small tokenisers, trained then and there; their tests are skipped where the package is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SENTENCES = [
    "the pump in hall two is hot and loud",
    "die Pumpe in Halle zwei ist heiß und laut",
    "насос во втором зале горячий",
    "二号厅的水泵很热",
    "is it hot? it is not.",
]


EVIL = {
    "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False,
}  # fmt: skip
"""A pattern that tries each of 2^n ways; the package's own limit ends it in a panic."""


def token_file() -> dict[str, Any]:
    """WordPiece as BERT has it, with marks around a text and between two."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra [text]")
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return json.loads(made.to_str())


def write_token_file(path: Path, **changes: Any) -> Path:
    """The file, with some of its fields changed."""
    path.write_text(json.dumps({**token_file(), **changes}), encoding="utf-8")
    return path
