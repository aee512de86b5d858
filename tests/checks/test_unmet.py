"""``edged check`` says where this box cannot do as it is asked first."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.checks.unmet import ask_runtime, unmet_preferences
from edged.generation.candidate import inspect_bundles
from edged.manifest import ArtefactEntry
from edged.runtimes.base import RuntimeInfo
from tests.engines import ELSEWHERE, HOST, build, with_engines
from tests.fakes.site import Site
from tests.models import double
from tests.verdicts import check_config

LINE = "models:\n  m: {bundle: m-1.edgb, runtime: [%s]%s}\n"
BOTH = "onnxruntime-cuda, onnxruntime"


def ask(name: str) -> RuntimeInfo:
    return RuntimeInfo(name, "1", ("cpu",), "no driver" if name == "onnxruntime-cuda" else "")


@pytest.mark.parametrize(
    ("runtimes", "more", "said"),
    [
        ("onnxruntime, onnxruntime-cuda", "", None),
        (BOTH, "", "onnxruntime serves instead"),
        (BOTH, ", fallback: deny", "it will not be served (fallback: deny)"),
        ("onnxruntime-cuda", "", "it will not be served"),
        ("onnxruntime-cuda", ", fallback: deny", "it will not be served"),
    ],
)
def test_said(tmp_path: Path, runtimes: str, more: str, said: str | None):
    site = Site(tmp_path)
    site.bundle("m", 1)
    snapshot = site.write(LINE % (runtimes, more)).load()
    found = unmet_preferences(snapshot, inspect_bundles(snapshot)[0], ask)
    start = f"{site.config}:5:25: models.m.runtime: onnxruntime-cuda cannot be used here: no driver"
    assert [str(one) for one in found] == ([f"{start}; {said}"] if said else [])


def test_a_bundle_that_has_no_file_for_it(tmp_path: Path):
    site = Site(tmp_path)
    site.bundle("m", 1)
    snapshot = site.write(LINE % ("onnxruntime, openvino", "")).load()
    manifest = inspect_bundles(snapshot)[0]["m"][1]
    manifest = msgspec.structs.replace(manifest, artefacts=(ArtefactEntry("openvino", "m.xml"),))
    (found,) = unmet_preferences(snapshot, {"m": {1: manifest}}, ask)
    assert found.message == (
        "onnxruntime cannot be used here: release 1 has no onnx artefact; openvino serves instead"
    )


def test_an_engine_for_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edged.loading.this_host", lambda: HOST)
    site = Site(tmp_path)
    site.bundle("m", 1)
    snapshot = site.write(LINE % ("tensorrt, onnxruntime", "")).load()
    for host, said in ((HOST, []), (ELSEWHERE, ["no engine that was built for this device"])):
        manifest, _ = with_engines(double(), [build(double(), host)], name="m")
        found = unmet_preferences(snapshot, {"m": {1: manifest}}, ask)
        assert [one.message.partition("has ")[2] for one in found] == [
            f"{each}; onnxruntime serves instead" for each in said
        ]


def test_it_is_a_warning_and_no_problem(tmp_path: Path):
    info = ask_runtime("onnxruntime-cuda")
    if not info.problem:
        pytest.skip("this machine has a GPU")
    site = Site(tmp_path)
    site.bundle("m", 1)
    site.write(LINE % (BOTH, ""))
    lines, summary = check_config(site.config, with_files=True)
    assert lines == []
    first, second, _unchecked = summary.splitlines()
    assert first == "good: 1 model, 0 bindings"
    assert second.startswith(f"warning: {site.config}:5:25: models.m.runtime: onnxruntime-cuda")
    assert check_config(site.config, with_files=False)[1].count("\n") == 0
