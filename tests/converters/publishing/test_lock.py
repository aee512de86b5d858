import importlib.metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from converters.errors import ConversionError
from converters.publishing.lock import check_runtime, lock_versions


def test_nothing_that_is_needed_is_left_out():
    """Each package's own needs are in it too, and fit: with --no-deps nothing else would come."""
    versions = lock_versions(["cpu", "images"])
    assert {"numpy", "onnxruntime", "pillow", "cffi", "msgspec"} <= set(versions)
    assert not {"edged", "onnx", "rich", "scikit-learn"} & set(versions)
    assert "pillow" not in lock_versions(["cpu"])
    for name, version in versions.items():
        assert importlib.metadata.version(name) == version
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert need.specifier.contains(versions[canonicalize_name(need.name)])


def test_what_is_not_installed_or_does_not_fit_is_named(monkeypatch):
    real = importlib.metadata.version

    def absent(name):
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ConversionError, match=r'onnxruntime is not .* "edged\[cpu\]"'):
        lock_versions(["cpu"])
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.0.1")
    with pytest.raises(ConversionError, match=r"0\.0\.1 is installed here; edged needs"):
        lock_versions(["cpu"])


def test_an_onnxruntime_older_than_the_target_s():
    check_runtime({"onnxruntime": "1.23.2"}, "cpu", "1.23.2")
    check_runtime({"onnxruntime": "1.100.0"}, "cpu", "1.23.2")
    with pytest.raises(ConversionError, match=r"1\.22\.1 is installed here; cpu has 1\.23\.2"):
        check_runtime({"onnxruntime": "1.22.1"}, "cpu", "1.23.2")
