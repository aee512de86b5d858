"""``edged build`` and ``edged engines``, over a fake TensorRT in the real building process."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edged.cli import main
from edged.commands.ahead import render_engines
from edged.engines import process
from edged.engines.bench import EngineBench
from edged.engines.cache import EngineCache
from edged.manifest import ArtefactEntry
from edged.runtimes.tensorrt_host import PROBE
from edged.store.floors import Floors
from edged.store.trust_document import parse_trust
from edged.store.trust_state import TrustState
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.engines import DRIVER
from tests.fakes.tensorrt_site import make_site
from tests.models import double
from tests.trust import Ring

HALF = ArtefactEntry("onnx", "model.onnx", "float16")
BODY = """trust: {require_signatures: false}
state_dir: STATE
listen: {socket: {path: STATE/none.sock}}
models:
  m: {bundle: m-*.edgb, runtime: [tensorrt, onnxruntime], aliases: {old: 1}}
  plain: {bundle: plain-1.edgb}
"""


@pytest.fixture
def box(tmp_path: Path) -> Path:
    for release in (1, 2):
        path = tmp_path / f"m-{release}.edgb"
        make_bundle(path, double("float16", 2), name="m", release=release, artefact=HALF)
    make_bundle(tmp_path / "plain-1.edgb", double(), name="plain", golden=False)
    (tmp_path / "state").mkdir()
    body = BODY.replace("STATE", str(tmp_path / "state"))
    (tmp_path / "edged.yaml").write_text(body)
    return tmp_path


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def give(**site: Any) -> Path:
        path = make_site(tmp_path / "site", driver=DRIVER, **site)
        monkeypatch.syspath_prepend(path)
        # Other tests keep the cores busy, and what runs behind everything else would not end.
        monkeypatch.setattr(process, "_give_way", lambda _pid: None)
        PROBE.forget()
        return path

    monkeypatch.setattr(PROBE, "_until", -1.0)
    return give


def edged(box: Path, *words: str) -> int:
    return main([*words, "--config", str(box / "edged.yaml"), "--state-dir", str(box / "state")])


def test_built_ahead_and_listed(box, gpu, capsys):
    gpu()
    assert edged(box, "build", "m@old") == 0
    out = capsys.readouterr().out
    assert "m release 1 in float16: ready, " in out
    assert "no daemon was told; the next start finds it" in out
    assert edged(box, "build", "m@1") == 0
    assert "m release 1 in float16: there already" in capsys.readouterr().out
    assert edged(box, "engines", "--json") == 0
    [one] = json.loads(capsys.readouterr().out)
    assert (one["model"], one["precision"], one["fits"]) == ("m", "float16", True)
    assert edged(box, "engines") == 0
    assert "10.3.0" in capsys.readouterr().out
    assert [path.name for path in (box / "state/engines").glob("build-*")] == []


@pytest.mark.slow
def test_the_newest_release_is_the_one_and_again_means_again(box, gpu, capsys):
    gpu()
    assert edged(box, "build", "m", "--precision", "float16") == 0
    assert edged(box, "build", "m", "--again") == 0
    out = capsys.readouterr().out
    assert out.count("m release 2 in float16: ready, ") == 2


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("build", "other"), 66, 'no model "other" is configured'),
        (("build", "m@7"), 66, 'model "m" has no release 7; it has: 1, 2'),
        (("build", "m", "--precision", "int8"), 65, "it has no int8 model"),
        (("build", "plain"), 65, "no golden samples"),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_is_asked_of_the_device(
    box, capsys, words, status, told
):
    assert edged(box, *words) == status
    assert told in capsys.readouterr().err


def test_what_may_not_serve_here_is_not_built_either(box, capsys):
    Floors(box / "state").rise({"m": 2})
    assert edged(box, "build", "m@1") == 78
    assert "is below the floor of this device" in capsys.readouterr().err


def test_trust_is_that_of_the_state_directory_which_is_named(box, capsys, tmp_path):
    ring = Ring(tmp_path)
    for version in (1, 2):
        (box / f"{version}.trust").write_bytes(ring.signed(ring.document(version)))
    body = (
        (box / "edged.yaml").read_text().replace("{require_signatures: false}", "{root: 1.trust}")
    )
    (box / "edged.yaml").write_text(body.replace(str(box / "state"), str(box / "elsewhere")))
    TrustState(box / "state").apply(parse_trust((box / "2.trust").read_bytes()))
    (box / "1.trust").write_bytes(b"not what counts")
    assert edged(box, "build", "m") == 78
    assert "signed by 0 of 1" in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_device(box, gpu, capsys):
    gpu(extra="raise ImportError('no TensorRT here')")
    assert edged(box, "build", "m") == 69
    assert "TensorRT" in capsys.readouterr().err
    assert edged(box, "engines") == 0
    assert "no engine is kept" in capsys.readouterr().out


@pytest.mark.slow
def test_one_that_fails_says_why_and_counts(box, gpu, capsys):
    gpu(fault="build")
    assert edged(box, "build", "m") == 78
    assert "cannot build it" in capsys.readouterr().err
    assert "cannot build it" in (box / "state/engines/attempts.json").read_text()
    assert EngineCache(box / "state/engines", 1 << 30).entries() == []


@pytest.mark.slow
def test_beside_another_build_it_does_not_wait(box, gpu, capsys):
    gpu()
    directory = box / "state/engines"
    with EngineBench(directory, EngineCache(directory, 1 << 30)).held():
        assert edged(box, "build", "m") == 75
    assert "another process builds an engine" in capsys.readouterr().err


def test_what_does_not_fit_says_why():
    one = {
        "model": "m", "precision": "int8", "bundle": "ab" * 32, "bytes": 3 << 20,
        "host": {"tensorrt": "8.6.1", "gpu": "Orin"}, "used_at": "now", "fits": False,
        "why_not": "tensorrt 8.6.1 (here: 10.3.0)",
    }  # fmt: skip
    assert "no: tensorrt 8.6.1 (here: 10.3.0)" in render_engines([one])


@pytest.mark.slow
def test_beside_a_daemon_which_swaps_to_it(box, gpu, capsys):
    path = gpu()
    body = BODY.split("models:")[1].replace("aliases", "serve: 2, aliases")
    config = f"trust: {{require_signatures: false}}\nengines: {{build: manual}}\nmodels:{body}"
    paths = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    with running(box, config, PYTHONPATH=paths) as daemon:
        builds = daemon.status()["engines"]
        wait_for(lambda: (daemon.status()["engines"] or {"builds": []})["builds"], 60)
        assert builds is None or not any(one["phase"] == "serving" for one in builds["builds"])
        assert edged(box, "build", "m") == 0
        assert "the daemon was told" in capsys.readouterr().out

        def serves() -> list[str]:
            found = daemon.status()["releases"]
            return [one["runtime"] for one in found if (one["model"], one["release"]) == ("m", 2)]

        wait_for(lambda: serves() == ["tensorrt"], 60)
