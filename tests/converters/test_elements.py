"""Strings and bfloat16 in the gate's small steps."""

import ml_dtypes
import numpy as np
import pytest

from converters import elements
from converters.errors import ConversionError, ParityError
from converters.parity import as_output, compare, judge
from converters.report.numbers import output_evidence
from converters.samples import choose_rows, generate, load_samples
from converters.sources.base import fit_dtype
from edged.manifest import Tolerance
from edged.strings import STRINGS_CAP, strings
from edged.tensors import BFLOAT16, from_bfloat16, to_bfloat16

WORDS = strings([b"red", b"gr\xc3\xbcn", b"", b"red"], (4, 1))
HALVES = to_bfloat16(np.array([[1.0], [-3.5], [200.0]], "f4"))


def test_a_file_holds_text_as_numpy_saves_it(tmp_path):
    np.savez(tmp_path / "s.npz", u=np.array([["grün"], [""]]), s=np.array([b"\xff", b"b"]))
    arrays, columns = load_samples(tmp_path / "s.npz")
    assert columns == ()
    assert arrays["u"].tolist() == [["grün".encode()], [b""]]
    assert arrays["s"].tolist() == [b"\xff", b"b"]


def test_a_file_holds_bfloat16_as_ml_dtypes_saves_it_or_as_named_bits(tmp_path):
    rows = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
    bits = rows.view(np.uint16)
    np.savez(tmp_path / "h.npz", **{"a": rows, "b.bfloat16": bits, "c": bits})
    arrays, _ = load_samples(tmp_path / "h.npz")
    assert (arrays["a"].dtype, arrays["b"].dtype, arrays["c"].dtype) == (BFLOAT16, BFLOAT16, "u2")
    for name in ("a", "b"):
        assert from_bfloat16(arrays[name]).tolist() == [[1.5, -2.0]]


def test_an_array_may_not_come_twice(tmp_path):
    np.savez(tmp_path / "h.npz", **{"x": np.ones(2, "f4"), "x.bfloat16": np.ones(2, "u2")})
    with pytest.raises(ConversionError, match='holds "x" twice'):
        load_samples(tmp_path / "h.npz")


def test_text_that_utf8_cannot_write_is_said(tmp_path):
    np.save(tmp_path / "t.npy", np.array(["\ud800"]))
    with pytest.raises(ConversionError, match="UTF-8 cannot write"):
        load_samples(tmp_path / "t.npy")


def test_samples_are_brought_to_the_models_type():
    assert fit_dtype(WORDS, "string", "x") is WORDS
    assert fit_dtype(HALVES, "bfloat16", "x") is HALVES
    made = fit_dtype(np.array([[1.00390625], [1 / 3]]), "bfloat16", "x")
    assert from_bfloat16(made).ravel().tolist() == [1.0, 0.333984375]
    assert fit_dtype(HALVES, "float32", "x").ravel().tolist() == [1.0, -3.5, 200.0]
    with pytest.raises(ConversionError, match="takes int64, the samples hold other values"):
        fit_dtype(HALVES, "int64", "x")


@pytest.mark.parametrize(
    ("array", "wanted", "words"),
    [
        (np.ones((2, 1)), "string", r'takes strings.*float64.*astype\("U"\)'),
        (WORDS, "float32", "takes float32, the samples hold text"),
        (WORDS, "bfloat16", "takes bfloat16, the samples hold text"),
    ],
)
def test_samples_of_another_kind_are_refused(array, wanted, words):
    with pytest.raises(ConversionError, match=words):
        fit_dtype(array, wanted, "x")


def test_rows_of_strings_are_bounded_by_their_number():
    rows = STRINGS_CAP // 100 + 1
    many = strings([b"a"] * (rows * 100), (rows, 100))
    assert choose_rows({"x": many})["x"].size <= STRINGS_CAP
    wide = strings([b"a"] * (2 * STRINGS_CAP + 2), (2, STRINGS_CAP + 1))
    with pytest.raises(ConversionError, match="in one row"):
        choose_rows({"x": wide})
    with pytest.raises(ConversionError, match="bring fewer rows"):
        elements.refuse_many("output", [("y", wide)])


def test_made_rows_hold_the_models_words_and_others():
    signature = {"w": ("string", (2,)), "h": ("bfloat16", (3,))}
    made, again = (generate(signature, 64, {b"ja", b"nein"}) for _ in range(2))
    assert made["w"].shape == (64, 2)
    assert set(made["w"].ravel().tolist()) == {b"ja", b"nein", *elements.UNKNOWN}
    assert made["h"].dtype == BFLOAT16
    assert all(elements.same(made[name], again[name]) for name in made)
    with pytest.raises(ConversionError, match=f"over {STRINGS_CAP} strings"):
        generate({"w": ("string", (STRINGS_CAP,))}, 64)


def test_strings_must_be_equal():
    assert compare("y", WORDS, WORDS.copy(), Tolerance()).rows_beyond == 0
    other = WORDS.copy()
    other[1, 0] = b"green"
    result = compare("y", WORDS, other, Tolerance(1.0, 1.0))
    assert (result.rows_beyond, result.worst_row, result.label_agreement) == (1, 1, 0.75)
    with pytest.raises(ParityError, match=r'1 of 4 rows give other strings.*\["grün"\].*"green"'):
        judge({"y": WORDS}, {"y": other}, Tolerance(1.0, 1.0))


def test_strings_that_are_always_the_same_prove_nothing():
    same = strings([b"a"] * 4, (4,))
    with pytest.raises(ParityError, match="proves nothing"):
        judge({"y": same}, {"y": same}, Tolerance())


def test_strings_are_not_held_against_numbers():
    with pytest.raises(ParityError, match="gives strings, the converted model float32"):
        compare("y", WORDS, np.ones((4, 1), "f4"), Tolerance())
    with pytest.raises(ConversionError, match="gives int64, the converted model strings"):
        as_output("y", np.ones((4, 1), "i8"), WORDS)
    with pytest.raises(ConversionError, match="gives int64, the converted model bfloat16"):
        as_output("y", np.ones((3, 1), "i8"), HALVES)


def moved(steps):
    return (HALVES.view("u2") + np.uint16(steps)).view(BFLOAT16)


def test_bfloat16_is_compared_as_numbers_one_step_apart():
    assert judge({"y": HALVES}, {"y": moved(1)}, Tolerance())[0].max_abs == 1.0
    with pytest.raises(ParityError, match=r"3 of 3 rows are beyond rtol 0\.0078125"):
        judge({"y": HALVES}, {"y": moved(2)}, Tolerance())
    assert judge({"y": HALVES}, {"y": moved(2)}, Tolerance(0.02, 0.0))
    with pytest.raises(ParityError, match="beyond rtol 0, atol 0"):
        judge({"y": HALVES}, {"y": moved(1)}, Tolerance(0.0, 0.0))


def test_nan_in_bfloat16_is_found():
    with pytest.raises(ParityError, match="gives NaN for sample row 1"):
        compare("y", to_bfloat16(np.array([1, np.nan], "f4")), moved(0)[:2, 0], Tolerance())


def test_the_report_has_both():
    other = WORDS.copy()
    other[1, 0] = b"green"
    told = output_evidence("y", WORDS, other, Tolerance())
    assert (told.rows_beyond, told.counts[-1], told.worst[0].row) == (1, 1, 1)
    told = output_evidence("y", HALVES, moved(1), Tolerance(2.0**-7, 0.0))
    assert (told.rows_beyond, told.worst[0].framework) == (0, (1.0,))
