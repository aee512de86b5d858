import zipfile

import numpy as np
import pytest

from converters import samples
from converters.errors import ConversionError
from converters.samples import (
    MAX_ROWS,
    UNNAMED,
    choose_rows,
    load_samples,
    load_worded,
    spread,
    take_truth,
)


def test_npz_keeps_names_and_npy_has_none(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)), y=np.zeros(2, "i4"))
    np.save(tmp_path / "b.npy", np.ones((2, 3)))
    assert set(load_samples(tmp_path / "a.npz")[0]) == {"x", "y"}
    assert set(load_samples(tmp_path / "b.npy")[0]) == {UNNAMED}


def test_csv_with_and_without_header(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffmass, size\n1,2\n3,\n")
    arrays, columns = load_samples(tmp_path / "a.csv")
    assert columns == ("mass", "size")
    np.testing.assert_array_equal(arrays[UNNAMED], [[1, 2], [3, np.nan]])
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    assert load_samples(tmp_path / "b.csv")[1] == ()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "a,b\n1,red\n", 'line 2, b: "red" is not a number'),
        ("a.csv", "a,b\n1\n", "line 2 has 1 cells, expected 2"),
        ("a.csv", "", "holds no line"),
        ("a.npz", "not a zip", "a.npz"),
        ("a.txt", "1", "expected a .npz, .npy or .csv"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConversionError, match=words):
        load_samples(tmp_path / name)


def test_columns_of_words_are_numbered_beside_their_words(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("mass,color,code\n1,red,7\n,,7a\n3,grün,\n4, red,7\n", encoding="utf-8")
    arrays, columns, words = load_worded(path)
    assert columns == ("mass", "color", "code")
    assert words == {"color": (" red", "grün", "red"), "code": ("7", "7a")}
    np.testing.assert_array_equal(
        arrays[UNNAMED], [[1, 2, 0], [np.nan, np.nan, 1], [3, 1, np.nan], [4, 0, 0]]
    )


def test_a_file_without_words_is_read_as_ever(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,\n")
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)))
    arrays, columns, words = load_worded(tmp_path / "a.csv")
    np.testing.assert_array_equal(arrays[UNNAMED], load_samples(tmp_path / "a.csv")[0][UNNAMED])
    assert (columns, words) == (("a", "b"), {})
    assert load_worded(tmp_path / "a.npz")[1:] == ((), {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,a\nx,y\n", 'two columns are called "a", and hold words'),
        ("a,b\nx\n", "line 2 has 1 cells, expected 2"),
        ("a,b\n", "is empty"),
        ("", "holds no line"),
    ],
)
def test_what_is_no_table_of_words_is_said(tmp_path, text, words):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(ConversionError, match=words):
        load_worded(tmp_path / "w.csv")
    with pytest.raises(ConversionError, match="No such file"):
        load_worded(tmp_path / "none.csv")


@pytest.mark.hostile("H4 an npy file with dtype object")
def test_objects_are_refused_unopened(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", x=np.array(["red"], dtype=object))
    np.save(tmp_path / "t.npy", np.array(["2026-01-01"], "M8[D]"))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(ConversionError, match=r'objects, which are not opened.*astype\("U"\)'):
            load_samples(tmp_path / name)
    with pytest.raises(ConversionError, match="neither numbers nor strings"):
        load_samples(tmp_path / "t.npy")


def test_rows_are_spread_and_bounded():
    assert spread(3, 8) == [0, 1, 2]
    assert spread(100, 4) == [0, 33, 66, 99]
    assert spread(10, 1) == [0]
    many = choose_rows({"x": np.arange(MAX_ROWS * 3)})["x"]
    assert len(many) == MAX_ROWS
    assert many[0] == 0
    assert many[-1] == MAX_ROWS * 3 - 1


def test_arrays_of_different_length_are_refused():
    with pytest.raises(ConversionError, match='"x" 2, "y" 3'):
        choose_rows({"x": np.ones(2), "y": np.ones(3)})


def test_the_right_answers_are_parted_from_the_inputs():
    arrays = {"x": np.ones((4, 3)), "right": np.array([[0], [2], [1], [0]], "u1")}
    rest, columns, truth = take_truth(arrays, (), "right")
    assert (list(rest), columns, truth.tolist(), truth.dtype) == (["x"], (), [0, 2, 1, 0], "i8")
    table = {UNNAMED: np.array([[1.5, 0, 2.5], [3.5, 1, 4.5]])}
    rest, columns, truth = take_truth(table, ("a", "right", "b"), "right")
    assert (columns, truth.tolist()) == (("a", "b"), [0, 1])
    assert rest[UNNAMED].tolist() == [[1.5, 2.5], [3.5, 4.5]]


@pytest.mark.parametrize(
    ("arrays", "columns", "words"),
    [
        ({"x": np.ones((4, 3))}, (), 'no array "right" beside the inputs'),
        ({"right": np.ones(4)}, (), 'no array "right" beside the inputs'),
        ({UNNAMED: np.ones((4, 2))}, ("a", "b"), "no column right"),
        ({"x": np.ones(4), "right": np.full(4, 0.5)}, (), "expects one whole number a row"),
        ({"x": np.ones(4), "right": np.full(4, np.nan)}, (), "expects one whole number a row"),
        ({"x": np.ones(4), "right": np.ones((4, 2), "i8")}, (), r"got int64 \[4, 2\]"),
    ],
)
def test_answers_that_are_none_are_refused(arrays, columns, words):
    with pytest.raises(ConversionError, match=words):
        take_truth(arrays, columns, "right")


def test_hostile_files_of_samples(tmp_path, monkeypatch):
    cells = "9" * 200_000
    (tmp_path / "a.csv").write_text(f"a,b\n1,{cells}\n2,3\n")
    for read in (load_samples, load_worded):
        with pytest.raises(ConversionError, match="field larger than field limit"):
            read(tmp_path / "a.csv")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x", "no array")
    with pytest.raises(ConversionError, match='"x" is not an array of numpy'):
        load_samples(tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((1000, 100)))
    monkeypatch.setattr(samples, "MAX_FILE_BYTES", 100_000)
    with pytest.raises(ConversionError, match=r"unpacks to \d+ bytes, over 100000"):
        load_samples(tmp_path / "b.npz")
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 4), }"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + head.ljust(117) + b"\n")
    with pytest.raises(ConversionError, match="more than fits into memory"):
        load_samples(tmp_path / "a.npy")
