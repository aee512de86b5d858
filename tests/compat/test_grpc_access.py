"""Triton's gRPC client as processes of users that are not the daemon's: each has its own rights."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.load import load
from edged.generation.content import content_digest
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.other_user import needs_root
from tests.models import double

pytest.importorskip("tritonclient.grpc")
pytestmark = [pytest.mark.slow, needs_root]

HER, HIM, CREW = 4001, 4002, 5001
BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
    "models:\n  cam-1: {bundle: cam-1.edgb}\n  secret: {bundle: secret.edgb}\n"
)
RULES = (
    "access:\n  rules:\n"
    f"    - {{users: ['{HER}'], models: [cam-*], allow: [infer, metadata]}}\n"
    f"    - {{groups: ['{CREW}'], allow: [infer]}}\n"
    "    - {tcp: true, allow: [infer, metadata]}\n"
)
CLIENT = """
import os
import sys
import numpy as np
import tritonclient.grpc as client_of
from tritonclient.utils import InferenceServerException

path, uid, *groups = sys.argv[1:]
# Only now: another user may not be allowed to read the libraries.
os.setgroups([int(group) for group in groups])
os.setresgid(65534, 65534, 65534)
os.setresuid(int(uid), int(uid), int(uid))
client = client_of.InferenceServerClient("unix:" + path)
x = client_of.InferInput("x", [1, 4], "FP32")
x.set_data_from_numpy(np.ones((1, 4), np.float32))

def said(work):
    try:
        work()
    except InferenceServerException as exc:
        return exc.status().removeprefix("StatusCode.")
    return "good"

for line in sys.stdin:
    what, _, model = line.strip().partition(" ")
    if what == "index":
        print(*sorted({one.name for one in client.get_model_repository_index().models}))
    elif what == "infer":
        # Often enough to be prepared, and answered the short way.
        print(*sorted({said(lambda: client.infer(model, [x])) for _ in range(20)}))
    else:
        print(said(lambda: client.get_model_metadata(model)))
    sys.stdout.flush()
client.close()
"""


class Shared(DaemonProcess):
    """Its socket of gRPC is open to every user of the device: the rules decide, not the file."""

    @property
    def rpc(self) -> Path:
        return self.directory / "g"

    def head(self) -> str:
        return (
            super()
            .head()
            .replace("listen: {", f"listen: {{grpc: {{path: {self.rpc}, mode: 0666}}, ")
        )

    def change(self, body: str) -> None:
        """Write, and wait until it is in effect."""
        self.write(body)
        wanted = content_digest(load(self.config))
        wait_for(lambda: self.status()["config"]["digest"] == wanted)
        wait_for(lambda: self.status()["config"]["applied"])


class User:
    """A client process of another user; its one connection stays open."""

    def __init__(self, daemon: Shared, uid: int, groups: tuple[int, ...] = ()) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(daemon.rpc), *map(str, (uid, *groups))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, words: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Shared]:
    with tempfile.TemporaryDirectory(prefix="edged-access-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for model in ("cam-1", "secret"):
            make_bundle(folder / f"{model}.edgb", double(), name=model, release=1)
        process = Shared(folder)
        process.write(BODY + RULES)
        try:
            yield process.start()
            assert "Traceback" not in process.log.read_text()
        finally:
            process.stop()


@pytest.mark.hostile("R32 a right that goes takes along what it granted")
def test_each_user_gets_what_a_rule_gives_until_a_reload_takes_it(daemon: Shared) -> None:
    her, him, crew = User(daemon, HER), User(daemon, HIM), User(daemon, HIM, (CREW,))
    try:
        assert her.ask("infer cam-1") == "good"
        assert her.ask("infer secret") == "PERMISSION_DENIED"
        assert her.ask("infer nosuch") == "PERMISSION_DENIED"
        assert her.ask("index") == "cam-1"
        assert her.ask("metadata secret") == "PERMISSION_DENIED"
        assert him.ask("infer cam-1") == "PERMISSION_DENIED", "a rule for tcp is not for users"
        assert him.ask("index") == ""
        assert crew.ask("infer secret") == "good"
        daemon.change(BODY + RULES.replace("cam-*", "cam-2*"))
        assert her.ask("infer cam-1") == "PERMISSION_DENIED"
        assert crew.ask("infer cam-1") == "good"
        daemon.change(BODY)
        assert him.ask("infer secret") == "good"
        daemon.change(BODY + RULES)
        assert her.ask("infer cam-1") == "good"
        assert him.ask("infer secret") == "PERMISSION_DENIED"
    finally:
        for user in (her, him, crew):
            user.close()


def test_bounds_of_one_user_are_not_those_of_another(daemon: Shared) -> None:
    quota = f"  quotas: [{{users: ['{HER}'], connections: 1, requests_per_second: 1, burst: 5}}]\n"
    daemon.change(BODY + RULES + quota)
    her, again, crew = User(daemon, HER), User(daemon, HER), User(daemon, HIM, (CREW,))
    try:
        assert her.ask("infer cam-1") == "RESOURCE_EXHAUSTED good"
        assert again.ask("metadata cam-1") == "RESOURCE_EXHAUSTED"
        assert crew.ask("infer cam-1") == "good"
        with daemon.client() as client:
            figures = client.call("metrics")
        assert 'edged_access_refused_total{reason="rate"} 0' not in figures
        assert 'edged_access_refused_total{reason="connections"} 0' not in figures
    finally:
        for user in (her, again, crew):
            user.close()
