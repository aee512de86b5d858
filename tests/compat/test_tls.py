"""Public clients under TLS, with certificates, against a daemon whose files change."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.stand import free_port, serving
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.certificates import Authority, Pair

pytestmark = pytest.mark.slow


class Site:
    """A daemon on a port under TLS, and what its clients have."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.authority = Authority(folder / "tls")
        self.server = self.authority.signs("server")
        self.client = self.authority.signs("camera")
        self.place = (
            f"port: {self.port}, tls: {{cert: {self.server.cert}, key: {self.server.key}, "
            f"client_ca: {self.authority.ca}}}, compress: true"
        )
        self.rpc = free_port()
        self.grpc = self.place.replace(f"port: {self.port}", f"port: {self.rpc}")
        self.grpc = self.grpc.replace(", compress: true", "")
        self.daemon: DaemonProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    made = Site(folder)
    with serving(folder, made.place, made.grpc) as made.daemon:
        yield made


def curl(site: Site, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["curl", "-sS", "--max-time", "30", "--cacert", str(site.authority.ca), *options]
    return subprocess.run(
        [*command, f"https://localhost:{site.port}/v2/models/echo"],
        capture_output=True,
        check=False,
    )


def shows(pair: Pair) -> tuple[str, ...]:
    return "--cert", str(pair.cert), "--key", str(pair.key)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    def test_with_a_certificate_and_without(self, site: Site) -> None:
        done = curl(site, *shows(site.client))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["name"] == "echo"
        assert curl(site).returncode != 0

    def test_events(self, site: Site) -> None:
        command = ["curl", "-sSN", "--max-time", "30", "--cacert", str(site.authority.ca)]
        url = f"https://localhost:{site.port}/v2/models/text/generate_stream"
        done = subprocess.run(
            [*command, *shows(site.client), "--compressed", url, "-d", '{"x": ["a", "b", "c"]}'],
            capture_output=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout.removeprefix(b"data: "))["y"] == ["a", "b", "c"]

    def test_files_that_change(self, site: Site) -> None:
        """A certificate that is renewed is served soon, and one that is broken is not taken."""
        before = served(site)
        renewed = site.authority.signs("server")
        wait_for(lambda: served(site) != before)
        content = renewed.key.read_bytes()
        renewed.key.write_text("torn")
        wait_for(lambda: {"tls", "grpc_tls"} <= degraded(site).keys(), 30)
        assert curl(site, *shows(site.client)).returncode == 0
        renewed.key.write_bytes(content)
        wait_for(lambda: not {"tls", "grpc_tls"} & degraded(site).keys(), 30)
        assert curl(site, *shows(site.client)).returncode == 0


def served(site: Site) -> bytes:
    """The certificate that the daemon shows."""
    context = site.authority.context(site.client)
    with (
        socket.create_connection(("127.0.0.1", site.port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        return sock.getpeercert(binary_form=True) or b""


def degraded(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.daemon.status()["degradations"]
    return found


def test_triton(site: Site) -> None:
    http = pytest.importorskip("tritonclient.http")
    options = {
        "ca_certs": str(site.authority.ca),
        "certfile": str(site.client.cert),
        "keyfile": str(site.client.key),
    }
    client = http.InferenceServerClient(f"localhost:{site.port}", ssl=True, ssl_options=options)
    rows = np.arange(6, dtype=np.float32).reshape(1, 6)
    features = http.InferInput("features", [1, 6], "FP32")
    features.set_data_from_numpy(rows)
    answers = [client.infer("sorter", [features]).as_numpy("probabilities") for _ in range(20)]
    assert all(np.array_equal(answers[0], one) for one in answers)
    assert answers[0].sum() == pytest.approx(1)
    many = http.InferInput("features", [500, 6], "FP32")
    many.set_data_from_numpy(np.repeat(rows, 500, axis=0))
    packed = client.infer("sorter", [many], response_compression_algorithm="gzip")
    assert np.array_equal(packed.as_numpy("probabilities"), np.repeat(answers[0], 500, axis=0))
    assert packed.get_response()["model_name"] == "sorter"
    client.close()


def test_triton_over_grpc(site: Site) -> None:
    rpc = pytest.importorskip("tritonclient.grpc")
    features = rpc.InferInput("features", [1, 6], "FP32")
    features.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(1, 6))
    options = {"ssl": True, "root_certificates": str(site.authority.ca)}
    shown = {"private_key": str(site.client.key), "certificate_chain": str(site.client.cert)}
    client = rpc.InferenceServerClient(f"localhost:{site.rpc}", **options, **shown)
    answers = [client.infer("sorter", [features]).as_numpy("probabilities") for _ in range(20)]
    assert all(np.array_equal(answers[0], one) for one in answers)
    assert answers[0].sum() == pytest.approx(1)
    client.close()
    client = rpc.InferenceServerClient(f"localhost:{site.rpc}", **options)
    with pytest.raises(rpc.InferenceServerException) as caught:
        client.infer("sorter", [features])
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    client.close()
