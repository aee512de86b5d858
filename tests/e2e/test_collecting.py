"""A real daemon keeps its store small, and never lets go of what it serves or could go back to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.generation.history import History
from edged.store.bundle import bundle_digest, read_manifest
from tests.bundles import make_bundle
from tests.chaos.store import Shop
from tests.e2e.process import wait_for
from tests.models import double

pytestmark = pytest.mark.slow

X = np.ones((1, 4), np.float32)


def test_the_store_of_a_running_daemon(tmp_path: Path) -> None:
    digests = {
        n: bundle_digest(
            read_manifest(
                make_bundle(tmp_path / f"m-{n}.edgb", double(factor=n + 1), name="m", release=n)
            )[0]
        )
        for n in range(1, 6)
    }
    daemon = Shop(tmp_path)

    def body(number: int, **more: str) -> str:
        said = ", ".join(f"{name}: {value}" for name, value in {"generations": "2", **more}.items())
        return (
            "trust: {require_signatures: false}\nreload: {settle: 10ms, confirm: {window: 0}}\n"
            f"trial: {{enabled: false}}\nstore: {{keep: 0, {said}}}\n"
            f"models:\n  m: {{bundle: m-{number}.edgb}}\n"
        )

    def kept() -> set[int]:
        names = {path.name for path in (tmp_path / "state/store").iterdir()}
        return {number for number, digest in digests.items() if digest in names}

    history = History(tmp_path / "state/history")
    try:
        daemon.write(body(1))
        daemon.start()
        for number in range(2, 5):
            wait_for(lambda: history.entries()[-1].generation in history.marks().confirmed)
            daemon.write(body(number))
            wait_for(lambda n=number: daemon.status()["models"][0]["serving"] == n)  # type: ignore[misc]
            with daemon.client() as client:
                assert client.infer("m", x=X)["y"][0, 0] == number + 1
        wait_for(lambda: kept() == {3, 4})
        command = [sys.executable, "-m", "edged", "bundle", "gc", "--dry-run", "--json"]
        done = subprocess.run(
            [*command, "--socket", str(tmp_path / "admin.sock")], capture_output=True, check=True
        )
        document = json.loads(done.stdout)
        assert (document["going"], document["staying"]) == ([], 2)
        # What a quota refuses changes nothing, and says so.
        daemon.write(body(5, max_bytes=str(document["staying_bytes"] + 10) + "B"))
        wait_for(lambda: "store.max_bytes" in daemon.status()["degradations"].get("config", ""))
        assert kept() == {3, 4}
        # A restart needs what it served, also when its file is gone.
        daemon.stop()
        (tmp_path / "m-4.edgb").unlink()
        daemon.write("models: [\n")
        daemon.start()
        with daemon.client() as client:
            assert client.infer("m", x=X)["y"][0, 0] == 5
        assert 4 in kept()
    finally:
        daemon.stop()
