"""An exception of an import, in words."""

from __future__ import annotations

import types

import pytest

from edged.runtimes.absence import version_of, why_not


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'pack'", name="pack"), "is not installed (No module"),
        (ModuleNotFoundError("No module named 'pack.sub'", name="pack.sub"), "is not installed"),
        (ModuleNotFoundError("nothing said which"), "is not installed"),
        (
            ModuleNotFoundError("No module named 'numpy'", name="numpy"),
            "is installed and needs numpy, which is not (",
        ),
        (
            ImportError("libcuda.so.1: cannot open shared object file: No such file"),
            "is installed but does not load, a library of it or beside it fails (libcuda.so.1:",
        ),
        (OSError("/opt/secret/lib.so: file too short"), "does not load"),
        (OSError("/opt/secret/lib.so: undefined symbol: x"), "((path): undefined symbol: x)"),
        (
            ImportError("cannot import name 'x' from 'pack' (/opt/secret/pack.py)"),
            "is installed but does not import (ImportError: cannot import name",
        ),
        (ValueError("numpy.dtype size changed"), "does not import (ValueError: numpy.dtype"),
        (SystemExit(3), "does not import (SystemExit: 3)"),
        (RuntimeError("x" * 5000), "xxx…)"),
        (OSError(), "fails"),
    ],
)
def test_words(error: BaseException, words: str):
    said = why_not("pack", error)
    assert words in said
    assert "/opt/secret" not in said
    assert len(said) < 420


def test_versions():
    module = types.ModuleType("pack")
    with pytest.raises(ImportError, match="nothing of its code"):
        version_of(module)
    module.__file__ = "/opt/pack.py"
    assert version_of(module) == "unversioned"
    module.__version__ = "1.2"
    assert version_of(module) == "1.2"
