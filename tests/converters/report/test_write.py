from pathlib import Path

import pytest

from converters import atomic
from converters.errors import ConversionError
from converters.report.evidence import Evidence, read
from converters.report.write import beside, write_report

EVIDENCE = Evidence(
    bundle={"name": "m", "release": 1, "version": "1", "digest": "0" * 64, "size_bytes": 10},
    manifest={"parity": {}, "provenance": {}},
    signature={"inputs": ("x float32[batch,3]",), "outputs": ("y float32[batch,2]",)},
    data="golden",
    outputs=(),
    machine={"processor": "one"},
)


def test_a_report_is_called_like_its_bundle():
    assert beside(Path("a/digits-1.edgb"), "json") == Path("a/digits-1.report.json")
    assert beside(Path("a/plain"), "html") == Path("a/plain.report.html")


def test_the_page_alone_or_with_its_data(tmp_path):
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    assert write_report(EVIDENCE, page) == [page]
    assert not data.exists()
    assert write_report(EVIDENCE, page, data) == [data, page]
    assert read(data) == EVIDENCE
    assert page.read_text().startswith("<!")
    assert {path.stat().st_mode & 0o777 for path in (page, data)} == {0o644}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json"]


def test_no_half_written_report_when_the_folder_is_not_there(tmp_path):
    with pytest.raises(ConversionError, match="cannot be written"):
        write_report(EVIDENCE, tmp_path / "no" / "r.html")


def test_a_disk_that_is_full_leaves_the_old_report(tmp_path, monkeypatch):
    page = tmp_path / "r.html"
    write_report(EVIDENCE, page)
    before = page.read_bytes()

    def full(_descriptor, _mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fchmod", full)
    with pytest.raises(ConversionError, match=r"r\.html: cannot be written: No space left"):
        write_report(EVIDENCE, page)
    assert page.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
