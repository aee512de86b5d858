"""How contests went is kept in a small file, and a file that says nonsense says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.store.contests import REASON_CHARS, Contests, Held

DIGEST = "a" * 64
RUNS = ((1, 1000), (2, 1500))
HELD = Held((("onnxruntime", "float32", RUNS),), (("openvino", "int8", "no kernel"),))


def test_outlives_the_process(tmp_path: Path):
    Contests(tmp_path / "contests").note(DIGEST, "here", HELD)
    again = Contests(tmp_path / "contests")
    assert again.get(DIGEST, "here") == HELD
    assert again.get(DIGEST, "there") is None
    assert again.get("b" * 64, "here") is None


def test_one_alone_has_no_figures(tmp_path: Path):
    held = Held((("onnxruntime", "float32", ()),), ())
    Contests(tmp_path).note(DIGEST, "here", held)
    assert Contests(tmp_path).get(DIGEST, "here") == held


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        '{"here": {"raced": [["onnxruntime", "float32", [[2, 5]]]]}}',
        '{"here": {"raced": [["onnxruntime", "float32", [[1, 5], [1, 6]]]]}}',
        '{"here": {"raced": [["onnxruntime", "float32", [[1, 0]]]]}}',
        '{"here": {"raced": [["", "float32", []]]}}',
        f'{{"here": {{"raced": [], "out": [["a", "b", "{"x" * (REASON_CHARS + 1)}"]]}}}}',
    ],
)
def test_nonsense_is_nothing(tmp_path: Path, text: str):
    (tmp_path / f"{DIGEST}.json").write_text(text)
    assert Contests(tmp_path).get(DIGEST, "here") is None


def test_the_longest_reasons_of_many_settings_fit_in_a_file_that_is_read(tmp_path: Path):
    out = tuple(("r" * 64, f"p{number}", "\u00e4" * REASON_CHARS) for number in range(9))
    kept = Contests(tmp_path)
    for number in range(40):
        kept.note(DIGEST, f"setting {number}", Held((), out))
    assert Contests(tmp_path).get(DIGEST, "setting 39") == Held((), out)
