"""Runtimes of installed packages: what a child finds out of good, broken and hostile ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edged.runtimes import installed
from edged.runtimes.installed import entry_of, installed_names, look_again, offer_of
from tests.fakes.packages import write_package

HEAD = """
from edged.runtimes.base import RuntimeInfo
class R:
    kinds = ("onnx", "of-tomorrow")
    device = "cpu"
    computes_in = "float16"
    def __init__(self, *, threads): pass
    def info(self): return RuntimeInfo("r", "3.1", ("cpu", "npu"), note="by hand")
"""


@pytest.fixture
def put(tmp_path: Path, monkeypatch):
    """Install a package that gives runtime ``r``."""
    monkeypatch.setattr(installed, "_offers", {})
    monkeypatch.syspath_prepend(tmp_path)

    def put(source: str, name: str = "pack", **more: object) -> None:
        write_package(tmp_path, name, source, {"r": f"{name}:R"}, **more)  # type: ignore[arg-type]

    return put


def test_a_good_one(put):
    put(HEAD)
    assert "r" in installed_names()
    offer = offer_of("r")
    assert (offer.package, offer.version, offer.devices) == ("pack 1.0", "3.1", ("cpu", "npu"))
    assert (offer.kinds, offer.computes_in, offer.problem) == (("onnx",), "float16", "")
    assert "pack" not in sys.modules


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise OSError('/opt/secret/libx.so: file too short')", "does not load"),
        ("raise KeyboardInterrupt", "does not import (KeyboardInterrupt"),
        ("import os; os._exit(0)", "ended the process (exit status 0)"),
        ("import os; os.kill(os.getpid(), 11)", "ended the process (SIGSEGV)"),
        ("import os; os.write(1, b'{}' * 10**6); os.abort()", "ended the process (SIGABRT)"),
    ],
)
def test_a_hostile_one_is_a_problem_in_words(put, source: str, words: str):
    put(source)
    offer = offer_of("r")
    assert words in offer.problem
    assert "/opt/secret" not in offer.problem
    assert (offer.kinds, offer.device, offer.version) == ((), "cpu", "")


def test_one_that_hangs(put, monkeypatch):
    monkeypatch.setattr(installed, "_PATIENCE_S", 0.5)
    put("import time; time.sleep(1000)")
    assert "takes longer" in offer_of("r").problem


def test_two_packages_of_one_name(put):
    put(HEAD)
    put(HEAD, "other")
    with pytest.raises(LookupError, match="several packages give it: "):
        entry_of("r")
    assert "uninstall all but one" in offer_of("r").problem


def test_a_name_that_no_configuration_could_say(tmp_path: Path, put, monkeypatch):
    write_package(tmp_path, "pack", HEAD, {"../r": "pack:R", "UP": "pack:R", "auto": "pack:R"})
    assert not {"../r", "UP", "auto"} & set(installed_names())
    with pytest.raises(LookupError):
        entry_of("../r")


def test_looked_at_once_and_again_only_after_a_failure(put, monkeypatch):
    looks = []
    real = installed._look
    monkeypatch.setattr(installed, "_look", lambda name: looks.append(name) or real(name))
    put("raise ValueError")
    assert offer_of("r").problem == offer_of("r").problem == look_again("r").problem
    assert looks == ["r"]  # a failure of just now is told again
    monkeypatch.setattr(installed, "_FRESH_S", -1.0)
    put(HEAD)
    assert offer_of("r").problem
    assert not look_again("r").problem
    assert not look_again("r").problem
    assert looks == ["r", "r"]
