"""A real registry (the distribution project's own), and images put into it with skopeo or by hand."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import wait_for

BUNDLE_TYPE = "application/vnd.edged.bundle.v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
USER, PASSWORD = "edge", "secret-word"
HASH = "edge:$2b$05$zn96u47Iswk0PAQJDslUp.8Askjh31ZbkifOKa36KPr4PJEMKhGmm\n"
"""Of that password; bcrypt is all that the registry takes."""


class Registry:
    def __init__(self, url: str, log: Path) -> None:
        self.url, self._log = url, log

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/v2/", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as exc:
            return exc.code == 401
        except OSError:
            return False

    def _call(self, method: str, url: str, data: bytes = b"", **headers: str) -> Any:
        request = urllib.request.Request(url, data=data, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        return urllib.request.urlopen(request, timeout=30)

    def _put_blob(self, name: str, data: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        with self._call("POST", f"{self.url}/v2/{name}/blobs/uploads/") as answer:
            place = answer.headers["Location"]
        sign = "&" if "?" in place else "?"
        self._call(
            "PUT", f"{place}{sign}digest={digest}", data, Content_Type="application/octet-stream"
        ).close()
        return {"digest": digest, "size": len(data)}

    def put_artefact(self, name: str, tag: str, bundle: Path) -> str:
        """One layer that is the bundle itself, as ``oras push`` makes it; its digest."""
        layer = {"mediaType": BUNDLE_TYPE, **self._put_blob(name, bundle.read_bytes())}
        config = {"mediaType": "application/vnd.oci.empty.v1+json", **self._put_blob(name, b"{}")}
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
        ).encode()
        url = f"{self.url}/v2/{name}/manifests/{tag}"
        with self._call("PUT", url, manifest, Content_Type=MANIFEST_TYPE) as answer:
            return str(answer.headers["Docker-Content-Digest"])

    def copy(self, layout: Path, tag: str, name: str, to: str) -> None:
        """An image of ``edged-convert publish``, as the documentation says to bring it."""
        skopeo = shutil.which("skopeo")
        if skopeo is None:
            pytest.skip("skopeo is not installed")
        place = self.url.removeprefix("http://")
        words = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
        subprocess.run(
            [skopeo, "--insecure-policy", *words, f"oci:{layout}:{tag}", f"docker://{place}/{name}:{to}"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip


@contextlib.contextmanager
def registry(folder: Path, login: bool = False) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if login:
        (folder / "htpasswd").write_text(HASH)
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}
    (folder / "config.json").write_text(json.dumps(config))  # YAML reads it too
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.json")], stdout=file, stderr=file
        )
    try:
        running = Registry(f"http://127.0.0.1:{port}", log)
        wait_for(lambda: running.is_up() or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.terminate()
        process.wait(20)
