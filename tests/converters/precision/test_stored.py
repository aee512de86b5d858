import zipfile

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.precision import stored

ROWS = np.arange(60, dtype="f4").reshape(20, 3)


def save(folder, kind, array=ROWS, **more):
    path = folder / f"rows.{kind}"
    if kind == "npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, x=array, **more)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_rows_come_a_few_at_a_time_and_again(tmp_path, kind):
    arrays = stored.open_arrays(save(tmp_path, kind))
    ((name, array),) = arrays.items()
    assert (name, array.shape) == ("x" if kind == "npz" else "*", (20, 3))
    for _ in range(2):
        parts = list(array.read(8))
        assert [len(part) for part in parts] == [8, 8, 4]
        assert np.array_equal(np.concatenate(parts), ROWS)


def test_a_numpy_file_is_never_held_whole(tmp_path):
    """The file claims a hundred gigabytes of rows; its first ones can be read all the same."""
    path = tmp_path / "large.npy"
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**8, 256)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(4 * 256 * 16))
    (array,) = stored.open_arrays(path).values()
    assert next(array.read(8)).shape == (8, 256)
    with pytest.raises(ConversionError, match="ends after 16 of 100000000 rows; the file is cut"):
        list(array.read(8))


class Canary:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda p: np.save(p, np.array([Canary()])), "expected rows of numbers, got object"),
        (lambda p: np.save(p, np.array(["a"])), "expected rows of numbers, got <U1"),
        (lambda p: np.save(p, np.float32(1)), "expected rows of numbers"),
        (lambda p: np.save(p, np.asfortranarray(ROWS)), r"stored by columns.*ascontiguousarray"),
        (lambda p: p.write_bytes(b"no such thing"), "rows.npy"),
        (lambda p: p.write_bytes(b""), "rows.npy"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, made, message):
    made(tmp_path / "rows.npy")
    with pytest.raises(ConversionError, match=message):
        stored.open_arrays(tmp_path / "rows.npy")


def test_an_archive_that_is_none_or_empty_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK no")
    with pytest.raises(ConversionError, match=r"a\.npz"):
        stored.open_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ConversionError, match="holds no array"):
        stored.open_arrays(tmp_path / "b.npz")
    with pytest.raises(ConversionError, match="No such file"):
        stored.open_arrays(tmp_path / "c.npz")


def test_another_kind_of_file_is_refused_by_what_there_is(tmp_path):
    with pytest.raises(ConversionError, match=r"expected a \.npz, .* messages \(\.jsonl\)"):
        stored.open_arrays(tmp_path / "rows.txt")
