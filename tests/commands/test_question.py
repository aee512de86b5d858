"""Words of a command line to tensors: strictly, and each mistake in a sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edged.client import InferResult
from edged.commands.question import make_answer, read_inputs, split_model, step_of
from edged.errors import EdgedError, RequestError
from edged.manifest import Manifest
from edged.messages import InferResponse, SequenceStep
from edged.processing.texts import unpack_texts
from edged.specs import FeaturesInput, ImageInput, OutputProcessing, TextInput
from tests.fakes.manifests import make_manifest

ONE = make_manifest([("x", "float32", ("batch", 2))])
WHOLE = make_manifest([("x", "int64", ("batch", 2))])
PAIR = make_manifest([("a", "float32", ("batch", 2)), ("b", "bool", ("batch", 1))])
NUMBER = make_manifest([("x", "float32", ())])
NAMED = make_manifest(
    [("x", "float32", ("batch", 2))],
    input_processing={"x": FeaturesInput(names=("temp", "hum"))},
)
PICTURE = make_manifest(
    [("image", "float32", ("batch", 1, 4, 4))],
    input_processing={"image": ImageInput(width=4, height=4, mode="L")},
)


def said(manifest: Manifest, *words: str) -> str:
    with pytest.raises(RequestError) as caught:
        read_inputs(manifest, list(words))
    return caught.value.message


def png(size: tuple[int, int] = (4, 4)) -> bytes:
    data = io.BytesIO()
    Image.new("L", size, 255).save(data, "png")
    return data.getvalue()


class TestModel:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("m", ("m", None)),
            ("m@", ("m", None)),
            ("m@3", ("m", 3)),
            ("m@live", ("m", "live")),
            ("m@²", ("m", "²")),
            ("m@٣", ("m", "٣")),
            ("m@" + "9" * 5000, ("m", "9" * 5000)),
            ("m@1@2", ("m", "1@2")),
        ],
    )
    def test_selectors(self, word: str, expected: tuple[str, Any]) -> None:
        assert split_model(word) == expected


class TestJson:
    @pytest.mark.parametrize("word", ["x=[[1, 2.5]]", "[[1, 2.5]]", "[1, 2.5]", "x= [[1,2.5]] "])
    def test_lists(self, word: str) -> None:
        (array,) = read_inputs(ONE, [word]).values()
        assert array.dtype == np.float32
        assert array.tolist() == [[1, 2.5]]

    def test_several_inputs(self) -> None:
        found = read_inputs(PAIR, ["b=[[true]]", "a=[[1,2]]"])
        assert {name: array.tolist() for name, array in found.items()} == {
            "a": [[1, 2]],
            "b": [[True]],
        }

    @pytest.mark.parametrize("word", ["3", "x=3", "x=3.0"])
    def test_a_number_without_axes(self, word: str) -> None:
        assert read_inputs(NUMBER, [word])["x"].shape == ()

    @pytest.mark.parametrize(
        "word", ['{"temp": 1, "hum": 2}', 'x=[{"hum": 2, "temp": 1}]', ' [ {"hum":2,"temp":1}]']
    )
    def test_named_columns(self, word: str) -> None:
        assert read_inputs(NAMED, [word])["x"].tolist() == [[1, 2]]

    def test_a_document_of_all_inputs(self) -> None:
        found = read_inputs(PAIR, ['{"inputs": {"a": [[1, 2]], "b": [[false]]}}'])
        assert found["b"].tolist() == [[False]]

    @pytest.mark.parametrize(
        ("manifest", "word"),
        [
            (ONE, "x=[[1, null]]"),
            (ONE, 'x=[["1", "2"]]'),
            (ONE, "x=[[1, NaN]]"),
            (ONE, "x=[[1, 2], [3]]"),
            (ONE, "x=[[1, 2, 3]]"),
            (ONE, "x=[]"),
            (ONE, "x="),
            (ONE, "x=[[1, 2]"),
            (ONE, "x=" + "[" * 5000),
            (ONE, 'x={"y": 1}'),
            (ONE, "x=[[1e400, 2]]"),
            (WHOLE, "x=[[1.7, 2]]"),
            (WHOLE, "x=[[99999999999999999999, 2]]"),
            (PAIR, "b=[[2]]"),
            (NUMBER, "x=null"),
            (NAMED, '{"temp": 1}'),
        ],
    )
    def test_refused(self, manifest: Manifest, word: str) -> None:
        """Nothing is bent into shape: what a binding would refuse is refused here too."""
        assert said(manifest, word)


class TestTexts:
    manifest = make_manifest(
        [("text", "uint8", ("batch", "characters"))], input_processing={"text": TextInput()}
    )

    @pytest.mark.parametrize("text", ["so", "", '"so"', "[1, 2]", "a=b", "{}", "ß文"])
    def test_a_word_is_taken_as_it_stands(self, text: str) -> None:
        (array,) = read_inputs(self.manifest, [f"text={text}"]).values()
        assert unpack_texts(array) == [text]

    def test_what_is_no_utf8(self) -> None:
        assert "half a character" in said(self.manifest, "text=\udcff")

    def test_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("ß\n")
        (tmp_path / "a.json").write_text('["a", "b"]')
        for name, texts in (("a.txt", ["ß\n"]), ("a.json", ["a", "b"])):
            (array,) = read_inputs(self.manifest, [f"text=@{tmp_path}/{name}"]).values()
            assert unpack_texts(array) == texts

    def test_bytes_of_any_file(self, tmp_path: Path) -> None:
        manifest = make_manifest([("file", "uint8", ("length",))])
        (tmp_path / "a.png").write_bytes(png())
        (array,) = read_inputs(manifest, [f"file=@{tmp_path}/a.png"]).values()
        assert bytes(array) == png()
        (tmp_path / "a.bin").write_bytes(b"")
        assert "0 bytes" in said(manifest, f"file=@{tmp_path}/a.bin")


class TestNames:
    def test_unknown_or_missing(self) -> None:
        assert (
            said(PAIR, "c=[[1, 2]]") == '"c=[[1, 2]]": expected INPUT=VALUE with INPUT one of a, b'
        )
        assert "one of a, b" in said(PAIR, "[[1, 2]]")

    def test_twice(self) -> None:
        assert '"x" is given twice' in said(ONE, "x=[[1,2]]", "[[3,4]]")


class TestFiles:
    def test_npy(self, tmp_path: Path) -> None:
        path = tmp_path / "a.NPY"
        array = np.arange(4, dtype=np.float32).reshape(2, 2)
        with path.open("wb") as file:
            np.save(file, array)
        assert np.array_equal(read_inputs(ONE, [f"x=@{path}"])["x"], array)

    @pytest.mark.parametrize("content", ["", "{}", "\0" * 8, "\x93NUMPY", "\x93NUMPY\1\0\5\0hello"])
    def test_no_npy(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "a.npy"
        path.write_bytes(content.encode("latin-1"))
        assert str(path) in said(ONE, f"@{path}")

    def test_npy_that_would_run_code_or_is_a_zip(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        with path.open("wb") as file:
            np.save(file, np.array([{"a": 1}], dtype=object))
        assert str(path) in said(ONE, f"@{path}")
        with path.open("wb") as file:
            np.savez(file, a=np.zeros(2))
        assert str(path) in said(ONE, f"@{path}")

    def test_npz_says_how_it_is_given(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros(2))
        assert "save each as .npy" in said(ONE, f"@{tmp_path}/a.npz")

    def test_npy_that_claims_the_world(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 9999999), }\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
        assert str(path) in said(ONE, f"@{path}")

    def test_json(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        path.write_text("[[1, 2]]\n")
        assert read_inputs(ONE, [f"@{path}"])["x"].tolist() == [[1, 2]]

    def test_a_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "a.PNG"
        path.write_bytes(png())
        assert read_inputs(PICTURE, [f"image=@{path}"])["image"].shape == (1, 1, 4, 4)

    @pytest.mark.parametrize("content", [b"", b"not a picture", png()[:40], png()[:-20]])
    def test_a_broken_picture(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(content)
        assert said(PICTURE, f"@{path}")

    @pytest.mark.parametrize(("manifest", "name"), [(ONE, "x"), (PAIR, "a")])
    def test_a_picture_for_a_model_that_takes_none(
        self, tmp_path: Path, manifest: Manifest, name: str
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(png())
        assert said(manifest, f"{name}=@{path}")

    def test_no_file(self, tmp_path: Path) -> None:
        assert (
            said(ONE, f"@{tmp_path}/none.npy") == f"{tmp_path}/none.npy: No such file or directory"
        )
        assert said(ONE, f"@{tmp_path}") == f"{tmp_path}: Is a directory"
        assert said(ONE, "@")


class TestAnswer:
    def answer(self, manifest: Manifest, *, raw: bool = False, **arrays: Any) -> dict[str, Any]:
        response = InferResponse("m", 3, 7, {k: np.asarray(v, "<f4") for k, v in arrays.items()})
        found = make_answer(manifest, InferResult(response), raw)
        json.loads(json.dumps(found, allow_nan=False))
        return found

    def test_rows(self) -> None:
        found = self.answer(ONE, y=[[1, 2, 3]])
        assert found["rows"] == [{"y": [1, 2, 3]}]
        assert (found["model"], found["release"], found["generation"]) == ("m", 3, 7)

    def test_labels(self) -> None:
        labels = {"y": OutputProcessing(labels=("a", "b", "c"))}
        manifest = make_manifest([("x", "float32", ("batch", 2))], output_processing=labels)
        (row,) = self.answer(manifest, y=[[0, 2, 1]])["rows"]
        assert (row["label"], row["score"]) == ("b", 2)
        assert self.answer(manifest, raw=True, y=[[0, 2, 1]])["outputs"] == {"y": [[0, 2, 1]]}

    def test_what_json_cannot_carry(self) -> None:
        values = [[np.nan, np.inf, 1]]
        assert self.answer(ONE, y=values)["rows"] == [{"y": [None, None, 1]}]
        assert self.answer(ONE, raw=True, y=values)["outputs"] == {"y": [[None, None, 1]]}


def test_field_errors_do_not_come_out(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with pytest.raises(EdgedError) as caught:
        read_inputs(ONE, [f"@{path}"])
    assert caught.value.code.value == "INVALID_ARGUMENT"


def test_which_sequence():
    assert step_of(None, start=False, end=False) is None
    assert step_of("mic", start=True, end=False) == SequenceStep("mic", start=True)
    for words in ({"start": True, "end": False}, {"start": False, "end": True}):
        with pytest.raises(RequestError, match="add --sequence ID"):
            step_of(None, **words)
    with pytest.raises(RequestError, match="expected a text of 1 to 256"):
        step_of("", start=True, end=False)
