import numpy as np
import pytest

from converters.errors import ConversionError
from converters.precision import table as module
from converters.precision.table import open_table

ROWS = np.arange(60, dtype="f8").reshape(20, 3)


def write(folder, text):
    (folder / "c.csv").write_text(text, encoding="utf-8")
    return folder / "c.csv"


@pytest.mark.parametrize("header", ["", "a, b,c"])
def test_rows_come_a_few_at_a_time_and_again(tmp_path, header):
    path = tmp_path / "c.csv"
    np.savetxt(path, ROWS, delimiter=",", header=header, comments="")
    rows, columns = open_table(path)
    assert columns == (("a", "b", "c") if header else ())
    assert (rows.shape, rows.dtype) == ((20, 3), np.float64)
    for _ in range(2):
        parts = list(rows.read(8))
        assert [len(part) for part in parts] == [8, 8, 4]
        np.testing.assert_array_equal(np.concatenate(parts), ROWS)


def test_spelled_as_samples_are(tmp_path):
    rows, columns = open_table(write(tmp_path, '\ufeffa,"b\nb"\r\n1,\r\n\r\n"2",1e3\r\n'))
    assert columns == ("a", "b\nb")
    np.testing.assert_array_equal(next(rows.read(5)), [[1, np.nan], [2, 1000]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no row"),
        ("a,b\n", "holds no row"),
        ("a,b\n1,2\n1\n", "line 3 has 1 cells, expected 2"),
        ("a,b\n1,2\n1,red\n", r'line 3, b: "red" is not a number; int8 takes no words'),
        ("1,2\n1,red\n", 'line 2, column 2: "red" is not a number'),
        ("1," + "2" * 200_000, "field larger than field limit"),
    ],
)
def test_what_is_no_table_is_refused_by_its_line(tmp_path, text, message):
    with pytest.raises(ConversionError, match=message) as caught:
        list(open_table(write(tmp_path, text))[0].read(8))
    assert caught.value.message.startswith('calibration "c.csv": ')


def test_bytes_that_are_no_text_and_no_file(tmp_path):
    (tmp_path / "c.csv").write_bytes(b"1,\xff\n")
    with pytest.raises(ConversionError, match="can't decode byte 0xff"):
        open_table(tmp_path / "c.csv")
    with pytest.raises(ConversionError, match="No such file"):
        open_table(tmp_path / "no.csv")


def test_a_line_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LINE_CAP", 50)
    with pytest.raises(ConversionError, match="a line of over 50 characters"):
        open_table(write(tmp_path, "1," * 60))
