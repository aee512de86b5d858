import json

import msgspec
import pytest

from converters.errors import ConversionError
from converters.report import evidence
from converters.report.evidence import OutputEvidence, encode, read
from tests.converters.report.test_write import EVIDENCE

OUTPUT = OutputEvidence(
    name="y", rows=2, max_abs=float("inf"), max_rel=float("nan"), rows_beyond=1,
    label_agreement=None, is_constant=False, bins=(0.0,), counts=(2,), worst=(),
)  # fmt: skip


def test_what_is_written_reads_the_same(tmp_path):
    (tmp_path / "r.json").write_bytes(encode(EVIDENCE))
    assert read(tmp_path / "r.json") == EVIDENCE


def test_numbers_that_are_not_finite_are_null(tmp_path):
    full = msgspec.structs.replace(EVIDENCE, outputs=(OUTPUT,))
    (tmp_path / "r.json").write_bytes(encode(full))
    assert json.loads((tmp_path / "r.json").read_text())["outputs"][0]["max_rel"] is None
    (again,) = read(tmp_path / "r.json").outputs
    assert (again.max_abs, again.max_rel, again.rows_beyond) == (None, None, 1)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "edged-report-v9"}', '{"bundle": {}}', "\ud800"]
)
def test_another_file_is_no_report(tmp_path, text):
    (tmp_path / "r.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConversionError, match=r"r\.json: not a report of this version"):
        read(tmp_path / "r.json")


def test_a_file_beyond_the_cap_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "r.json").write_bytes(encode(EVIDENCE))
    monkeypatch.setattr(evidence, "CAP_BYTES", 100)
    with pytest.raises(ConversionError, match="over 100 bytes"):
        read(tmp_path / "r.json")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ConversionError, match="No such file"):
        read(tmp_path / "r.json")
