"""``edged check`` says what this machine chose for ``runtime: auto``, or what it would choose among."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.checks.chosen import chosen_lines
from edged.device.setting import device_setting
from edged.generation.candidate import inspect_bundles
from edged.runtimes import registry
from edged.runtimes.base import RuntimeInfo
from edged.store.contests import Held
from edged.store.findings import Findings
from tests.fakes.site import Site
from tests.verdicts import check_config

AUTO = "models:\n  m: {bundle: m-1.edgb, runtime: auto%s}\nruntime: {threads: 2}\n"
NO_CUDA = "left out: onnxruntime-cuda (no driver)"


class Asked(Site):
    def __init__(self, directory: Path, here: str) -> None:
        super().__init__(directory)
        self.here = here.split()
        self.asked: list[str] = []
        self.bundle("m", 1)

    def ask(self, name: str) -> RuntimeInfo:
        self.asked.append(name)
        return RuntimeInfo(name, "1.0", (), "" if name in self.here else "no driver; install it")

    def lines(self, body: str) -> list[str]:
        snapshot = self.write(body).load()
        digests: dict[tuple[str, int], str] = {}
        manifests, _ = inspect_bundles(snapshot, digests)
        self.digest = digests["m", 1]
        found = chosen_lines(snapshot.config, manifests, digests, self.state, self.ask)
        return [line.removeprefix("models.m.runtime: auto, release 1: ") for line in found]


@pytest.fixture(autouse=True)
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("onnxruntime", "onnxruntime-cuda", "openvino")
    monkeypatch.setattr(registry, "RUNTIME_NAMES", names)


@pytest.mark.parametrize(
    ("here", "more", "said"),
    [
        (
            "onnxruntime openvino",
            "",
            f"to be found out when it is loaded, among onnxruntime, openvino; {NO_CUDA}",
        ),
        (
            "onnxruntime openvino",
            "}\ntrial: {enabled: false",
            "float32 on onnxruntime comes first; without trials nothing is compared",
        ),
        (
            "onnxruntime openvino",
            ", isolation: model}\ntrial: {enabled: false",
            "to be found out when it is loaded, among onnxruntime, openvino",
        ),
        ("openvino", "", "nothing but openvino can run it here"),
        ("", "", "nothing here can run it"),
    ],
)
def test_before_a_contest(tmp_path: Path, here: str, more: str, said: str):
    (line,) = Asked(tmp_path, here).lines(AUTO % more)
    assert line.startswith(said)


def test_after_one(tmp_path: Path):
    site = Asked(tmp_path, "onnxruntime openvino")
    site.lines(AUTO % "")
    raced = (("onnxruntime", "float32", ((1, 900_000),)), ("openvino", "float32", ((1, 500_000),)))
    ids = "onnxruntime-cuda 1.0, onnxruntime 1.0, openvino 1.0"
    setting = f"{ids}, 2 threads, {device_setting()}"
    site.state.mkdir()
    Findings.of(site.state).contests.note(site.digest, setting, Held(raced))
    (line,) = site.lines(AUTO % "")
    assert line == (
        f"openvino won on this device: openvino 0.500 ms a row; onnxruntime 0.900 ms a row; {NO_CUDA}"
    )
    (line,) = site.lines(AUTO.replace("threads: 2", "threads: 1") % "")
    assert line.startswith("to be found out"), "with other threads it was never held"


def test_nobody_is_asked_where_nothing_is_chosen(tmp_path: Path):
    site = Asked(tmp_path, "onnxruntime")
    assert site.lines(AUTO.replace("runtime: auto%s", "runtime: [onnxruntime]")) == []
    assert site.asked == []


def test_check_tells_it(tmp_path: Path):
    site = Asked(tmp_path, "")
    site.write(AUTO % "")
    problems, summary = check_config(site.config, with_files=True)
    assert problems == []
    assert "\nmodels.m.runtime: auto, release 1: " in summary
