"""A registry round trip with MLflow itself: alias in, bundle out, proof back, alias moved.

MLflow makes the store and looks at it afterwards, in processes of its own; between the two the
store is read and written by edged-convert alone.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from converters import cli
from edged.store.bundle import bundle_digest, read_manifest

pytestmark = [pytest.mark.frameworks, pytest.mark.slow, pytest.mark.timeout(600)]
START_S = 240


@pytest.fixture(autouse=True)
def _mlflow():
    import importlib.util

    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed on this Python")


def drive(command, store):
    script = Path(__file__).with_name("drive_mlflow.py")
    words = [sys.executable, "-W", "ignore", str(script), command, store]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def go_round(store, tmp_path, capsys):
    runs = drive("register", store)
    bundle = tmp_path / "scorer.edgb"
    words = ["--store", store]
    # Nothing is proven yet: the alias stays.
    assert cli.main(["promote", "models:/scorer/1", "--alias", "edge", *words]) == 78
    assert cli.main(["models:/scorer@champion", "-o", str(bundle), "--record", *words]) == 0
    assert drive("show", store)["aliases"] == {"champion": 1, "edge": 2}
    assert cli.main(["promote", "models:/scorer/1", "--alias", "edge", *words]) == 0
    said = capsys.readouterr().out
    assert "recorded: scorer version 1" in said
    data, manifest, _ = read_manifest(bundle)
    assert manifest.provenance["origin"]["run_id"] == runs["1"]
    seen = drive("show", store)
    assert seen["aliases"] == {"champion": 1, "edge": 1}
    assert seen["tags"]["edged.bundle_digest"] == bundle_digest(data)
    assert seen["tags"]["edged.grade"] == "checked"
    assert seen["report"]["digest"] == bundle_digest(data)
    assert seen["report"]["parity"] == manifest.parity
    # By run, and with an alias that is not there.
    again = tmp_path / "again.edgb"
    named = ["-o", str(again), "--name", "scorer", "--release", "1", *words]
    assert cli.main([f"runs:/{runs['1']}/scorer", *named]) == 0
    assert cli.main(["models:/scorer@nobody", "-o", str(tmp_path / "none.edgb"), *words]) == 66
    assert "nobody" in capsys.readouterr().err
    assert not (tmp_path / "none.edgb").exists()


def test_a_local_database(tmp_path, capsys):
    go_round(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, capsys)


@contextlib.contextmanager
def serving(folder):
    """MLflow's tracking server; yields its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        *(sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artefacts")),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health") as got:
                    if got.status == 200:
                        break
                time.sleep(0.2)
            else:
                raise AssertionError((folder / "server.log").read_text()[-2000:])
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def test_a_tracking_server(tmp_path, capsys):
    with serving(tmp_path) as url:
        go_round(url, tmp_path, capsys)
