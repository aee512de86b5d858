"""Text out of scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.config.pipeline import CtcConfig
from edged.errors import FieldError
from edged.pipelines.text import ctc_work, read_characters
from edged.processing.texts import unpack_texts
from edged.tensors import TensorSpec


def scores(*paths: list[int], classes: int = 5) -> np.ndarray:
    made = np.full((len(paths), len(paths[0]), classes), 0.1, np.float32)
    for row, path in zip(made, paths, strict=True):
        row[range(len(path)), path] = 0.5
    return made


def test_best_path(tmp_path: Path):
    file = tmp_path / "c.txt"
    file.write_text("a\nß\r\n文\n", encoding="utf-8")
    work = ctc_work(CtcConfig(from_="x", characters="c.txt"), file)
    specs = work.outputs({"from": TensorSpec("from", "float32", ("n", "t", 5))})
    assert [str(spec) for spec in specs] == ["uint8[n,*characters]", "float32[n]"]
    got = work.run({"from": scores([1, 1, 0, 1, 2, 2], [0, 3, 4, 3, 3, 0], [0] * 6)})
    assert unpack_texts(got["text"]) == ["aaß", "文 文", ""]
    np.testing.assert_allclose(got["score"], [0.5, 0.5, 0])
    with pytest.raises(FieldError, match=r"c\.txt makes 5 classes with blank and space"):
        work.outputs({"from": TensorSpec("from", "float32", ("n", "t", 6))})


def test_files_of_characters(tmp_path: Path):
    file = tmp_path / "c.txt"
    file.write_bytes(b"\xff")
    with pytest.raises(FieldError, match="is not UTF-8"):
        read_characters(file)
    file.write_text("a\n \n\nb")
    assert read_characters(file) == ["a", " ", "", "b"]
