"""What an operator says of the store: the defaults, and what is out of range."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import load
from edged.config.problems import ConfigProblemsError
from edged.config.store import StoreConfig


def test_defaults(tmp_path: Path):
    (tmp_path / "edged.yaml").write_text("node: n\n")
    assert load(tmp_path).config.store == StoreConfig(max_bytes=None, keep=2, generations=20)


@pytest.mark.parametrize("words", ["keep: -1", "generations: 1", "generations: 21", "max_bytes: x"])
def test_out_of_range(tmp_path: Path, words: str):
    (tmp_path / "edged.yaml").write_text(f"store: {{{words}}}\n")
    with pytest.raises(ConfigProblemsError, match=words.partition(":")[0]):
        load(tmp_path)
