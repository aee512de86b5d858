"""Which estimator files are told as what, and that skops says what to install."""

import zipfile

import pytest

from converters.errors import ConversionError
from converters.sources import estimator_file
from converters.sources.estimator_file import is_skops, open_estimator


def test_joblib_pickle_and_skops_are_told_by_content(digits, tmp_path):
    import joblib

    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        archive.writestr("schema.json", "{}")
    assert is_skops(str(tmp_path / "m.skops"))
    assert not is_skops(str(digits / "digits.joblib"))
    assert not is_skops(str(tmp_path / "none"))
    opened = open_estimator(str(digits / "digits.joblib"))
    assert type(opened) is type(joblib.load(digits / "digits.joblib"))


def test_without_skops_the_extra_is_named(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "m.skops", "w") as archive:
        archive.writestr("schema.json", "{}")

    def nothing(name):
        raise ImportError(name)

    monkeypatch.setattr(estimator_file.importlib, "import_module", nothing)
    with pytest.raises(ConversionError, match=r"edged\[convert-skops\]"):
        open_estimator(str(tmp_path / "m.skops"))


@pytest.mark.frameworks
def test_a_skops_file_opens(digits, tmp_path):
    import joblib
    import skops.io

    model = joblib.load(digits / "digits.joblib")
    skops.io.dump(model, tmp_path / "m.skops")
    assert open_estimator(str(tmp_path / "m.skops")).steps[-1][1].classes_.tolist() == list(
        range(10)
    )
