import numpy as np
import pytest

from converters.baked.raw import prepare, take_edges
from converters.baked.reference import preprocess
from converters.baked.words import Bake, Resize
from converters.errors import ConversionError
from converters.sandbox import Converted
from converters.sources.base import SourceResult

WORK = Bake(scale="1/255")


def prepared(bake, samples, *, batch="rows", edges=True):
    return prepare(bake, samples, batch=batch, edges=edges)


def test_the_framework_gets_ready_pictures_and_raw_edges_behind_them(pictures):
    raw = prepared({"*": WORK}, {"image": pictures})
    assert list(raw.edges) == ["zeros", "lowest", "highest"]
    assert raw.samples["image"].dtype == np.uint8
    assert len(raw.fed["image"]) == 12 + 3
    np.testing.assert_array_equal(raw.fed["image"][:12], preprocess(WORK, pictures))
    np.testing.assert_array_equal(raw.fed["image"][-1:], preprocess(WORK, pictures.max(0)[None]))
    assert raw.by_input(("x",)) == {"x": "image"}
    assert len(prepared({"*": WORK}, {"image": pictures}, edges=False).fed["image"]) == 12


def test_whole_numbers_of_any_type_are_pictures_and_others_not(pictures):
    raw = prepared({"image": WORK}, {"image": pictures.astype(np.float64)})
    assert raw.samples["image"].dtype == np.uint8
    for wrong in (pictures + 0.5, pictures.astype(np.int64) + 200):
        with pytest.raises(ConversionError, match="takes uint8, the samples hold other values"):
            prepared({"*": WORK}, {"image": wrong})


def test_nan_is_no_edge_of_a_float_picture(pictures):
    raw = prepared({"*": Bake(dtype="float32")}, {"image": pictures / 255})
    assert "missing" not in raw.edges


def test_inputs_that_nothing_is_baked_for_stay(pictures):
    more = np.arange(12.0)[:, None]
    raw = prepared({"image": WORK}, {"image": pictures, "more": more})
    np.testing.assert_array_equal(raw.fed["more"][:12], more)
    assert raw.by_input(("more", "image")) == {"more": "more", "image": "image"}


def test_no_more_rows_than_the_framework_can_hold(pictures, monkeypatch):
    monkeypatch.setattr("converters.baked.raw.MAX_BYTES", 10 * pictures[0].size * 4)
    raw = prepared({"*": WORK}, {"image": pictures}, edges=False)
    assert len(raw.samples["image"]) == len(raw.fed["image"]) == 10
    np.testing.assert_array_equal(raw.samples["image"][[0, -1]], pictures[[0, -1]])
    small = Bake(resize=Resize(height=8, width=6))
    assert len(prepared({"*": small}, {"image": pictures}, edges=False).fed["image"]) == 12


def test_what_cannot_be_baked_is_refused(pictures):
    for bake, samples, batch, words in (
        ({"*": WORK}, {}, "rows", "no samples were given"),
        ({"*": WORK}, {"image": pictures}, "none", "batch none"),
        ({"y": WORK}, {"image": pictures}, "rows", '"y" is none of the samples\' inputs'),
        ({"*": WORK}, {"a": pictures, "b": pictures}, "rows", r'"\*" is none of'),
        ({"*": WORK}, {"image": pictures[:, 0, 0]}, "rows", "2 axes"),
        ({"*": Bake(scale=1e38)}, {"image": pictures}, "rows", "beyond float32"),
    ):
        with pytest.raises(ConversionError, match=words):
            prepared(bake, samples, batch=batch)


def test_edges_are_taken_off_again_with_the_frameworks_answers(pictures):
    raw = prepared({"*": WORK}, {"image": pictures})
    answers = np.arange(15.0)[:, None]
    answers[13] = np.nan
    converted = Converted(b"", {"x": raw.fed["image"]}, {"y": answers}, {}, SourceResult())
    back = take_edges(converted, raw)
    assert len(back.inputs["x"]) == len(back.outputs["y"]) == 12
    assert list(back.edges) == ["zeros", "highest"]  # NaN is no answer
    assert back.edges["highest"][1]["y"].tolist() == [[14.0]]
