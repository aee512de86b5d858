"""What this machine is, asked in a process of its own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from edged.errors import LoadError
from edged.runtimes import tensorrt_host
from edged.runtimes.base import Artefact
from edged.runtimes.tensorrt_host import HostProbe, TensorRtApart, Told, ask_child
from tests.engines import HOST, Site

GOOD = Told(host=HOST)


class Asked:
    """A child whose answer can be changed, and a clock that is moved by hand."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.times = 0
        self.now = 100.0
        self.probe = HostProbe(self.ask, lambda: self.now)

    def ask(self) -> Told:
        self.times += 1
        return self.told


def test_a_load_asks_once():
    asked = Asked(GOOD)
    assert [asked.probe.host() for _ in range(5)] == [HOST] * 5
    assert asked.times == 1


def test_an_upgrade_is_noticed_later():
    asked = Asked(GOOD)
    asked.probe.host()
    asked.now += 61
    asked.probe.host()
    assert asked.times == 2
    asked.probe.forget()
    asked.probe.host()
    assert asked.times == 3


def test_a_device_that_comes_back_is_noticed_soon():
    asked = Asked(Told(problem="no GPU is visible"))
    with pytest.raises(LoadError, match="no GPU is visible"):
        asked.probe.host()
    asked.told = GOOD
    with pytest.raises(LoadError):
        asked.probe.host()
    asked.now += 6
    assert asked.probe.host() == HOST


def test_info_and_nothing_more():
    runtime = TensorRtApart(Asked(GOOD).probe)
    info = runtime.info()
    assert (info.name, info.version, info.devices) == ("tensorrt", "10.3.0", ("cuda:0",))
    missing = TensorRtApart(Asked(Told(problem="no driver")).probe).info()
    assert (missing.version, missing.devices, missing.problem) == ("", (), "no driver")
    assert runtime.estimate_bytes(Artefact("m", bytes(100), (), ())) > 200
    with pytest.raises(LoadError, match=r'"m": an engine is machine code .* worker process only'):
        runtime.load(Artefact("m", b"", (), ()))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(made.path)
    return made


class TestTheChild:
    def test_it_tells_the_machine(self, site: Site):
        assert ask_child() == GOOD
        assert site.is_clean()

    def test_what_is_missing(self, site: Site):
        (site.path / "tensorrt.py").write_text("raise OSError('libnvdla_compiler.so: cannot open')")
        assert "TensorRT is installed and does not load: libnvdla_compiler" in ask_child().problem

    def test_without_the_package_none_is_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(subprocess, "run", None)
        monkeypatch.setattr("sys.path", [str(tmp_path)])
        assert "TensorRT is not installed; on a Jetson" in ask_child().problem

    def test_a_driver_that_chatters(self, site: Site):
        with (site.path / "sitecustomize.py").open("a") as file:
            file.write("\nprint('NVRM: hello')\n")
        assert ask_child() == GOOD

    def test_a_crash_is_an_answer(self, site: Site):
        (site.path / "tensorrt.py").write_text("import os; os.kill(os.getpid(), 11)")
        said = ask_child().problem
        assert said.endswith(f"fell over when asked what it is (signal {int(signal.SIGSEGV)})")

    def test_one_that_hangs(self, site: Site, monkeypatch: pytest.MonkeyPatch):
        (site.path / "tensorrt.py").write_text("import time; time.sleep(600)")
        monkeypatch.setattr(tensorrt_host, "_TIMEOUT_S", 1.0)
        assert ask_child().problem == "the GPU did not answer within 1 s"

    def test_what_nobody_foresaw(self, site: Site):
        (site.path / "tensorrt.py").write_text("raise ValueError('numpy.dtype size changed')")
        assert "ValueError: numpy.dtype size changed" in ask_child().problem
