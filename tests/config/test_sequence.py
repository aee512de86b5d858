"""The words about sequences: what they are when nothing is said."""

from __future__ import annotations

from pathlib import Path

from edged.config.load import load
from edged.config.sequence import SequenceConfig


def test_what_is_said(tmp_path: Path):
    (tmp_path / "edged.yaml").write_text(
        "trust: {require_signatures: false}\n"
        "models:\n"
        "  a: {bundle: a.edgb}\n"
        "  b: {bundle: b.edgb, sequence: {state: {h: hN, c: cN}, idle_timeout: 5s}}\n"
    )
    config = load(tmp_path).config
    assert config.models["a"].sequence is None
    section = config.models["b"].sequence
    assert section == SequenceConfig(state={"c": "cN", "h": "hN"}, idle_timeout=5 * 10**9)
    assert section.pairs == "c=cN,h=hN"
    assert (section.on_swap, section.when_full, section.max_state) == ("keep", "reject", 64 << 20)
