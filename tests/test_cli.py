"""The command line as a process, beside a real daemon: what is printed and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edged.specs import ImageInput, OutputProcessing
from tests.bundles import make_bundle
from tests.e2e.models import lying
from tests.e2e.process import DaemonProcess, running
from tests.models import classifier, double, image, two_inputs

BODY = """\
trust: {require_signatures: false}
models:
  m: {bundle: ['m-*.edgb'], aliases: {old: 1}}
  pair: {bundle: pair.edgb}
  sight: {bundle: sight.edgb}
  wine: {bundle: wine.edgb}
  bad: {bundle: bad.edgb, required: false}
"""


def edged(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "80", **more},
    )


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    box = tmp_path_factory.mktemp("cli")
    for release in (1, 2):
        make_bundle(
            box / f"m-{release}.edgb", double(factor=release + 1), name="m", release=release
        )
    make_bundle(box / "pair.edgb", two_inputs(), name="pair")
    work = {"image": ImageInput(width=5, height=8, scale=1 / 255)}
    make_bundle(box / "sight.edgb", image(), name="sight", input_processing=work)
    labels = {"probabilities": OutputProcessing(labels=("red", "white", "green"))}
    make_bundle(box / "wine.edgb", classifier(), name="wine", output_processing=labels)
    make_bundle(box / "bad.edgb", lying(double()), name="bad")
    with running(box, BODY) as daemon:
        yield daemon


def infer(daemon: DaemonProcess, *words: object) -> dict[str, Any]:
    done = edged("infer", *words, "--socket", daemon.socket)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(daemon: DaemonProcess, status: int, *words: object) -> str:
    """One sentence on stderr, nothing on stdout, no traceback."""
    done = edged("infer", *words, "--socket", daemon.socket)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


class TestInfer:
    def test_json_and_releases(self, daemon: DaemonProcess) -> None:
        answer = infer(daemon, "m", "x=[[1, 2, 3, 4]]")
        assert answer["rows"] == [{"y": [3, 6, 9, 12]}]
        assert (answer["model"], answer["release"], answer["generation"]) == ("m", 2, 1)
        assert infer(daemon, "m@1", "[1,2,3,4]")["rows"] == [{"y": [2, 4, 6, 8]}]
        raw = infer(daemon, "m@old", "[[1,2,3,4]]", "--raw")
        assert raw["outputs"] == {"y": [[2, 4, 6, 8]]}

    def test_files(self, daemon: DaemonProcess, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
        assert len(infer(daemon, "m", f"x=@{tmp_path}/x.npy")["rows"]) == 2
        Image.new("RGB", (5, 8), "white").save(tmp_path / "x.png")
        (row,) = infer(daemon, "sight", f"@{tmp_path}/x.png")["rows"]
        assert row["brightness"][0][0][0] == pytest.approx(1.0)

    def test_named_inputs_and_labels(self, daemon: DaemonProcess) -> None:
        (row,) = infer(daemon, "pair", "a=[[1, 2]]", "b=[[0, 5]]")["rows"]
        assert row == {"sum": [1, 7], "is_more": [True, False]}
        (row,) = infer(daemon, "wine", "[[1, 2, 3, 4, 5, 6]]")["rows"]
        assert row["label"] in {"red", "white", "green"}

    def test_refusals(self, daemon: DaemonProcess, tmp_path: Path) -> None:
        assert "no model" in refused(daemon, 66, "nobody", "[1]")
        assert "no release 7" in refused(daemon, 66, "m@7", "[1,2,3,4]")
        assert "no alias" in refused(daemon, 66, "m@new", "[1,2,3,4]")
        assert "golden" in refused(daemon, 69, "bad", "[1,2,3,4]")
        assert "float32[batch,4]" in refused(daemon, 65, "m", "[[1, 2]]")
        assert "missing input" in refused(daemon, 65, "pair", "a=[[1, 2]]")
        np.save(tmp_path / "x.npy", np.ones((2, 4)))
        assert "float64" in refused(daemon, 65, "m", f"@{tmp_path}/x.npy")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        assert "x.png" in refused(daemon, 65, "sight", f"@{tmp_path}/x.png")
        assert refused(daemon, 65, "m", "[1,2,3,4]", "--timeout", "nan")


class TestStatus:
    def test_text(self, daemon: DaemonProcess) -> None:
        done = edged("status", "--socket", daemon.socket)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert " on test: ready, up " in lines[0]
        assert any(
            re.match(r"  model\.bad \(for \d+ s\): release 1 failed: ", line) for line in lines
        )
        assert all(len(line) <= 120 for line in lines if not line.startswith("  model.bad"))

    def test_json(self, daemon: DaemonProcess) -> None:
        done = edged("status", "--json", "--socket", daemon.socket)
        document = json.loads(done.stdout)
        assert (document["ready"], document["generation"]) == (True, 1)
        assert [model["name"] for model in document["models"]] == [
            "m", "pair", "sight", "wine", "bad",
        ]  # fmt: skip

    def test_by_environment(self, daemon: DaemonProcess) -> None:
        assert edged("models", EDGED_SOCKET=str(daemon.socket)).returncode == 0

    def test_models(self, daemon: DaemonProcess) -> None:
        done = edged("models", "--socket", daemon.socket)
        assert "m: release 2 serves; aliases: old = 1" in done.stdout
        assert "  in   x float32[batch,4]" in done.stdout
        assert "bad: NOT READY" in done.stdout
        document = json.loads(edged("models", "--json", "--socket", daemon.socket).stdout)
        assert [len(model["releases"]) for model in document] == [2, 1, 1, 1, 1]

    @pytest.mark.parametrize("verb", ["load", "unload"])
    def test_administrators_verbs_are_on_their_socket(
        self, daemon: DaemonProcess, tmp_path: Path, verb: str
    ) -> None:
        done = edged(verb, "m", EDGED_ADMIN_SOCKET=f"{tmp_path}/none.sock")
        assert (done.returncode, f"{tmp_path}/none.sock" in done.stderr) == (69, True)
        assert "asked on `listen.admin`" in done.stderr
        done = edged(verb, "m", "--socket", daemon.socket)
        assert (done.returncode, "is not `listen.admin`" in done.stderr) == (77, True)


class TestDiff:
    def test_before_and_after_an_edit(self, daemon: DaemonProcess, tmp_path: Path) -> None:
        state = ["--state-dir", daemon.directory / "state"]
        done = edged("diff", "--config", daemon.config)
        assert (done.returncode, done.stdout) == (
            0,
            "no difference: a reload would change nothing\n",
        )
        for beside in daemon.config.parent.glob("*.*"):  # bundles and keys, as `cp -a` has them
            if not beside.is_socket():
                (tmp_path / beside.name).symlink_to(beside)
        edit = tmp_path / "edged.yaml"
        edit.unlink(missing_ok=True)
        edit.write_text(daemon.config.read_text().replace("old: 1", "old: 2"))
        done = edged("diff", "--config", edit, *state)
        assert (done.returncode, done.stdout) == (
            0,
            "~ models.m.aliases.old: 1 -> 2\ncosts:\n  no load, no memory, no subscription\n",
        )
        edit.write_text(daemon.config.read_text().replace("old: 1", "old: 9"))
        done = edged("diff", "--config", edit, *state)
        assert (done.returncode, "aliases.old: 1 -> 9" in done.stdout) == (78, True)
        assert done.stderr.startswith("a reload would refuse it:\n  ")
        edit.write_text(daemon.config.read_text().replace("old: 1", "old: 2"))
        bare = tmp_path / "bare"
        bare.mkdir()
        (bare / "edged.yaml").write_text(edit.read_text())
        done = edged("diff", "--config", bare, *state)
        assert "m: none of its bundles can be read; see edged check" in done.stdout
        assert "ends" not in done.stdout
        edit.write_text("models: [\n")
        done = edged("diff", "--config", edit, *state)
        assert done.returncode == 78
        assert "edged.yaml:2:" in done.stderr


class TestCheck:
    def test_good(self, daemon: DaemonProcess) -> None:
        done = edged("check", "--config", daemon.config)
        assert (done.returncode, done.stderr) == (0, "")
        first, *warnings = done.stdout.splitlines()
        assert first == f"{daemon.config}: good: 5 models, 0 bindings"
        assert len(warnings) == ("require_signatures: false" in daemon.config.read_text())


class TestElsewhere:
    def test_wrong_words(self) -> None:
        assert edged().returncode == 2
        assert edged("fly").returncode == 2
        assert edged("--version").stdout.startswith("edged ")

    @pytest.mark.parametrize("words", [["check", "--explain"], ["device", "--json"]])
    def test_a_reader_that_goes_away(self, words: list[str]) -> None:
        """As in ``edged check --explain | head -1``: no complaint at the end."""
        read, write = os.pipe()
        os.close(read)
        try:
            done = subprocess.run(
                [sys.executable, "-m", "edged", *words],
                stdout=write,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
                env={k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
            )
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (0, b"")

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_a_full_disk(self, unbuffered: str) -> None:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "edged", "check", "--explain"],
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        assert done.returncode == 74
        assert done.stderr.startswith(b"error: No space left on device; make room on that disk")

    def test_quick_commands_load_nothing_heavy(self) -> None:
        """On a small box ``edged status`` must not wait for a runtime."""
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "edged", "status", "--socket", "/none"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        names = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
        assert not names & {"onnxruntime", "paho", "yaml", "PIL", "uvloop", "cryptography"}
