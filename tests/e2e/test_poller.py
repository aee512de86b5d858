"""A daemon that asks a mirror by itself: what is new serves, and when it is away nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("urllib3")

from converters.publishing.mirror import publish_to_mirror
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.models import double
from tests.sources.server import Server, web_server

PATIENCE_S = 60.0


def mirror(folder: Path, server: Server, release: int, signer: str = "site") -> None:
    file = make_bundle(
        folder / f"made-{release}.edgb", double(), name="m", release=release,
        key=folder / f"{signer}.key",
    )  # fmt: skip
    publish_to_mirror(file, f"{folder}/www:stable", [], 1)
    for path in (folder / "www").rglob("*.*"):
        server.files[f"/{path.relative_to(folder / 'www')}"] = path.read_bytes()
    server.serve_files()


@pytest.mark.slow
def test_releases_come_by_themselves(tmp_path: Path):
    for name in ("site", "stranger"):
        generate_key(tmp_path / name)
    (tmp_path / "bundles").mkdir()
    make_bundle(tmp_path / "bundles/m-1.edgb", double(), name="m", key=tmp_path / "site.key")
    daemon = DaemonProcess(tmp_path)
    with web_server() as server:
        server.answer = lambda request: request.reply(503)
        daemon.write(
            "trust: {keys: [site.pub]}\n"
            f"sources: {{f: {{kind: mirror, url: {server.url}, insecure: true, poll: 10s}}}}\n"
            "models:\n  m: {bundle: bundles/m-*.edgb, pull: f/m:stable}\n"
        )
        daemon.start()

        def serving() -> int:
            return int(daemon.status()["models"][0]["serving"])

        def pull() -> dict[str, object]:
            return dict(daemon.status()["pulls"][0])

        try:
            # Away: said, and what serves goes on.
            wait_for(lambda: "pull.m" in daemon.status()["degradations"], PATIENCE_S)
            assert "not now (503)" in daemon.status()["degradations"]["pull.m"]
            assert (serving(), daemon.status()["ready"]) == (1, True)
            mirror(tmp_path, server, 2)
            wait_for(lambda: serving() == 2, PATIENCE_S)
            wait_for(lambda: pull()["state"] in ("installed", "current"), PATIENCE_S)
            assert "pull.m" not in daemon.status()["degradations"]
            # One that nobody whom we trust signed.
            mirror(tmp_path, server, 3, "stranger")
            wait_for(lambda: pull()["state"] == "failed", PATIENCE_S)
            assert (serving(), daemon.status()["config"]["applied"]) == (2, True)
        finally:
            assert daemon.stop() == 0
