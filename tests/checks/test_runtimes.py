"""The runtimes that a configuration names: built in, of an installed package, or of nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.checks.runtimes import check_runtimes
from edged.config.load import load
from edged.generation.candidate import build_candidate
from edged.runtimes import installed
from edged.runtimes.registry import RUNTIME_NAMES
from edged.store.repository import Repository
from tests import models
from tests.bundles import make_bundle
from tests.fakes.packages import write_package
from tests.verdicts import check_config

BODY = """\
trust: {{require_signatures: false}}
models:
  gate: {{bundle: gate.edgb, runtime: [onnxruntime, {name}]}}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(installed, "_offers", {})
    monkeypatch.syspath_prepend(tmp_path / "packages")
    make_bundle(tmp_path / "gate.edgb", models.double(), name="gate")

    def site(name: str) -> Path:
        (tmp_path / "edged.yaml").write_text(BODY.format(name=name))
        return tmp_path

    return site


def test_built_in_names_ask_nobody(site, monkeypatch):
    monkeypatch.setattr("edged.checks.runtimes.installed_names", lambda: pytest.fail("was asked"))
    assert list(check_runtimes(load(site("openvino")).config)) == []


def test_auto_is_all_there_are(site, tmp_path: Path):
    body = BODY.replace("[onnxruntime, {name}]", "auto").format()
    site("x")
    (tmp_path / "edged.yaml").write_text(body)
    assert list(check_runtimes(load(tmp_path).config)) == []


@pytest.mark.parametrize("with_files", [True, False])
def test_a_name_of_nobody(site, with_files: bool):
    lines, _ = check_config(site("onxruntime-cuda"), with_files=with_files)
    [line] = lines
    assert line.endswith("of installed packages: none")
    where = "edged.yaml:3:52: models.gate.runtime[1]: "
    assert (
        f'{where}no runtime is called "onxruntime-cuda" (did you mean "onnxruntime-cuda"?)' in line
    )
    assert f"built in: {', '.join(RUNTIME_NAMES)}; of" in line


def test_a_package_that_works_and_its_neighbour(site, tmp_path: Path):
    source = (
        "from edged.runtimes.base import RuntimeInfo\n"
        "class R:\n"
        "    kinds = ('onnx',)\n"
        "    def __init__(self, threads): pass\n"
        "    def info(self): return RuntimeInfo('own', '1', ('cpu',))\n"
    )
    write_package(tmp_path / "packages", "pack", source, {"own": "pack:R", "bad": "pack:Nothing"})
    assert check_config(site("own"), with_files=True)[0] == []
    lines, _ = check_config(site("owm"), with_files=True)
    assert '"owm" (did you mean "own"?)' in lines[0]
    assert "of installed packages: bad, own" in lines[0]
    body = BODY.replace("[onnxruntime, {name}]", "[{name}, onnxruntime]").format(name="bad")
    (tmp_path / "edged.yaml").write_text(body)
    lines, summary = check_config(tmp_path, with_files=True)
    assert lines == []
    words = (
        "models.gate.runtime: bad cannot be used here: pack 1.0 is installed but does not import"
    )
    (warning,) = (line for line in summary.splitlines() if words in line)
    assert warning.endswith("onnxruntime serves instead")


def test_at_boot_what_can_be_served_is(site, tmp_path: Path):
    """The others of the list are still tried: a package that went must not stop a box."""
    repository = Repository(tmp_path / "state")
    repository.open()
    candidate = build_candidate(load(site("gone")), repository)
    assert [problem.path for problem in candidate.problems] == ["models.gate.runtime[1]"]
    assert [item.config.runtime for item in candidate.desired()] == [("onnxruntime", "gone")]
    assert candidate.broken == {}
