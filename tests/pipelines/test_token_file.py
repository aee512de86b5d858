"""A tokeniser's file: what is taken of it, and what it cannot do to us."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from edged.errors import FieldError, RunError
from edged.pipelines.token_file import Encoded, TokenFile, open_token_file
from tests.fakes.token_files import EVIL, token_file, write_token_file


def refusal(path: Path, length: int | None = 8, is_pair: bool = False) -> str:
    with pytest.raises(FieldError) as caught:
        open_token_file(path, length, is_pair)
    return f"{caught.value.path}: {caught.value.reason}"


def test_texts_become_numbers_with_their_marks(tmp_path: Path):
    words = open_token_file(write_token_file(tmp_path / "t.json"), 8, False)
    assert (words.length, words.pad_id, words.pad_type, words.pads_left) == (8, 0, 0, False)
    made = words.encode("the pump", None, is_special=True)
    assert (made.ids[0], made.ids[-1], len(made.ids)) == (2, 3, len(made.types))
    assert words.encode("the pump", None, is_special=False).ids == made.ids[1:-1]
    assert words.encode("", None, is_special=True) == Encoded([2, 3], [0, 0])
    cut = words.encode("the pump in hall two is hot and loud", None, is_special=True)
    assert (len(cut.ids), cut.ids[0], cut.ids[-1]) == (8, 2, 3)


def test_two_texts(tmp_path: Path):
    path = write_token_file(tmp_path / "t.json")
    made = open_token_file(path, 10, True).encode("hot", "is it not", is_special=True)
    assert made.types[:3] == [0, 0, 0]
    assert set(made.types[3:]) == {1}


def test_what_the_file_says_of_cutting_and_filling(tmp_path: Path):
    path = write_token_file(
        tmp_path / "t.json",
        truncation={"max_length": 4, "strategy": "OnlyFirst", "stride": 3, "direction": "Left"},
        padding={
            "strategy": {"Fixed": 10**15}, "direction": "Left", "pad_to_multiple_of": None,
            "pad_id": 7, "pad_type_id": 1, "pad_token": "x",
        },
    )  # fmt: skip
    words = open_token_file(path, None, False)
    assert (words.length, words.pad_id, words.pad_type, words.pads_left) == (4, 7, 1, True)
    whole = open_token_file(path, 30, False).encode("the pump is hot", None, is_special=True)
    cut = words.encode("the pump is hot", None, is_special=True)
    # The end is kept, nothing is filled up, and no stride keeps the rest beside it.
    assert cut.ids == [2, *whole.ids[-3:]]


def test_the_same_file_is_read_once_and_again_when_it_changes(tmp_path: Path):
    path = write_token_file(tmp_path / "t.json")
    words = open_token_file(path, 8, False)
    assert open_token_file(path, 8, False) is words
    assert open_token_file(path, 9, False) is not words
    os.utime(path, ns=(1, 1))
    assert open_token_file(path, 8, False) is not words


def test_a_text_is_the_same_each_time(tmp_path: Path):
    """Dropout is for training."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(dropout=0.5))
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=60, show_progress=False)
    made.train_from_iterator(["abcabcabcabc"] * 9, trainer)
    (tmp_path / "t.json").write_text(made.to_str())
    assert json.loads(made.to_str())["model"]["dropout"] == 0.5
    words = open_token_file(tmp_path / "t.json", 64, False)
    made = {tuple(words.encode("abcabcabcabcabc", None, is_special=True).ids) for _ in range(40)}
    assert len(made) == 1


def test_no_length(tmp_path: Path):
    path = write_token_file(tmp_path / "t.json")
    assert refusal(path, None) == "tokens.length: is missing, and t.json does not say one"
    assert "tokens.length: 3 leaves no place for a text: t.json itself adds 3" in refusal(
        path, 3, True
    )


def test_the_package_is_not_there(tmp_path: Path, monkeypatch):
    path = tmp_path / "t.json"
    path.write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert refusal(path) == (
        'tokens: needs the package tokenizers, which is not here: pip install "edged[text]"'
    )


def test_no_file(tmp_path: Path):
    assert "No such file" in refusal(tmp_path / "t.json")
    assert refusal(tmp_path) == f"tokens.file: {tmp_path} is no file"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == f"tokens.file: {tmp_path}/pipe is no file"


@pytest.mark.hostile("F14 a tokeniser's file that is none, or whose pattern never ends")
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"a":' * 500, b'{"version": "9"}'])
def test_files_of_another_kind(tmp_path: Path, data: bytes):
    pytest.importorskip("tokenizers")
    (tmp_path / "t.json").write_bytes(data)
    assert "t.json is no tokenizer.json: " in refusal(tmp_path / "t.json")


def test_a_file_that_is_too_large(tmp_path: Path):
    pytest.importorskip("tokenizers")
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert "has more than 67108864 bytes" in refusal(tmp_path / "t.json")


def test_a_vocabulary_that_cannot_say_a_word(tmp_path: Path):
    model = {**token_file()["model"], "vocab": {"a": 0}}
    path = write_token_file(tmp_path / "t.json", model=model, post_processor=None)
    assert "is of no use: cannot be made into tokens" in refusal(path)


def test_words_as_long_as_books(tmp_path: Path):
    model = {**token_file()["model"], "max_input_chars_per_word": 10**6}
    path = write_token_file(tmp_path / "t.json", model=model)
    assert "takes words of 1000000 characters; the limit is 256" in refusal(path)


@pytest.mark.hostile("F14 a tokeniser's file that is none, or whose pattern never ends")
def test_a_pattern_that_never_ends_is_an_error_and_no_lost_thread(tmp_path: Path, capfd):
    """The package panics, which is no Exception: whoever waits would wait for ever."""
    words = open_token_file(write_token_file(tmp_path / "t.json", pre_tokenizer=EVIL), 8, False)
    with pytest.raises(RunError, match="the package tokenizers gave up"):
        words.encode("a" * 40 + "!", None, is_special=True)
    assert len(words.encode("the", None, is_special=True).ids) > 2


def test_an_end_of_the_process_is_none_of_its_errors(tmp_path: Path):
    words = TokenFile(write_token_file(tmp_path / "t.json"), 8, False)

    class Ends:
        def encode_batch_fast(self, *_args, **_words):
            raise KeyboardInterrupt

    words._tokenizer = Ends()
    with pytest.raises(KeyboardInterrupt):
        words.encode("a", None, is_special=True)
