"""The pages: what a probe and a scraper are told, over HTTP, by the daemon as a process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from edged.errors import ConfigError
from edged.pages import probes
from edged.pages.probes import Probes
from edged.protocol.http_get import Request
from edged.serving.dataplane import Dataplane, ServingTable
from edged.telemetry.exposition import Family, Figure, Kind
from tests.bundles import make_bundle
from tests.e2e.models import lying
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.models import double

X = np.ones((1, 4), np.float32)
EDGED = (sys.executable, "-m", "edged")
HEAD = "trust: {require_signatures: false}\nreload: {settle: 20ms}\n"


class Site:
    """A daemon that can be probed."""

    def __init__(self, directory: Path) -> None:
        make_bundle(directory / "m-1.edgb", double(), name="m", release=1)
        make_bundle(directory / "bad-1.edgb", lying(double()), name="bad", release=1)
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def body(self, required: str = "true", where: str | None = None) -> str:
        metrics = where or f"{{port: {self.port}}}"
        return (
            HEAD + f"listen: {{metrics: {metrics}}}\nmodels:\n  m: {{bundle: m-1.edgb}}\n"
            f"  bad: {{bundle: bad-1.edgb, required: {required}}}\n"
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def listening(site: Site, **words: str) -> DaemonProcess:
    daemon = DaemonProcess(site.directory)
    save(daemon, site.body(**words))
    return daemon


def save(daemon: DaemonProcess, body: str) -> None:
    """As ``DaemonProcess.write``, with both sections of ``listen`` in one."""
    socket_line = f"socket: {{path: {daemon.socket}}}, metrics:"
    text = f"node: test\nstate_dir: {daemon.directory}/state\n" + body
    temporary = daemon.config.with_suffix(".tmp")
    temporary.write_text(text.replace("metrics:", socket_line))
    temporary.replace(daemon.config)


def get(port: int | Path, path: str, *options: str) -> tuple[int, str, str]:
    """Status, content type and body, by curl where it is."""
    host = "localhost" if isinstance(port, Path) else f"127.0.0.1:{port}"
    if shutil.which("curl") is None:
        return get_plainly(port, host, path, options)
    where = ["--unix-socket", str(port)] if isinstance(port, Path) else []
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %{content_type}", *where,
         *options, f"http://{host}{path}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    body, _, last = done.stdout.rpartition("\n")
    status, _, content_type = last.partition(" ")
    return int(status), content_type, body


def get_plainly(
    port: int | Path, host: str, path: str, options: tuple[str, ...]
) -> tuple[int, str, str]:
    """The same where there is no curl; knows only the options that are used here."""
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX if isinstance(port, Path) else socket.AF_INET)
    connection.sock.connect(str(port) if isinstance(port, Path) else ("127.0.0.1", port))
    words = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([words["-H"].split(": ", 1)]) if "-H" in words else {}
    connection.request(words.get("-X", "GET"), path, words.get("-d"), headers)
    with contextlib.closing(connection), connection.getresponse() as answer:
        content_type = answer.getheader("Content-Type") or ""
        return answer.status, content_type, answer.read().decode()


def value(body: str, name: str, **labels: str) -> float | None:
    for family in parse_plain(body):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


def test_scraped_and_probed_by_curl(site: Site) -> None:
    daemon = listening(site)
    daemon.start()
    try:
        with daemon.client() as client:
            client.infer("m", x=X)
        status, content_type, body = get(site.port, "/metrics")
        assert (status, content_type.split(";")[0]) == (200, "text/plain")
        assert value(body, "edged_requests_total", model="m", transport="uds") == 1
        assert value(body, "edged_connections", listener="metrics") == 1
        assert value(body, "edged_loop_lag_seconds_count") is not None
        accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        status, content_type, body = get(site.port, "/metrics", "-H", accept)
        assert content_type.startswith("application/openmetrics-text")
        assert {family.name for family in parse_open(body)} >= {"edged_requests", "edged_ready"}
        assert get(site.port, "/health/live")[::2] == (200, '{"live":true}\n')
        status, _, body = get(site.port, "/health/ready")
        assert status == 503
        document = json.loads(body)
        assert document["ready"] is False
        assert list(document["not_ready"]) == ["bad"]
        assert "golden" in document["not_ready"]["bad"]
        assert str(site.directory) not in body
        for path, options, wanted in (
            ("/", (), 404),
            ("/metrics/", (), 404),
            ("/metrics", ("-X", "POST", "-d", "x"), 405),
            ("/metrics", ("-X", "DELETE"), 405),
        ):
            assert get(site.port, path, *options)[0] == wanted, (path, options)
        # A model that is not required keeps nobody from being ready.
        save(daemon, site.body(required="false"))
        wait_for(lambda: get(site.port, "/health/ready")[0] == 200)
    finally:
        assert daemon.stop() == 0


def test_the_listener_follows_a_reload(site: Site) -> None:
    """To a Unix socket, refused where something else is, away, and back."""
    daemon = listening(site, required="false")
    daemon.start()
    path = site.directory / "figures.sock"
    try:
        assert get(site.port, "/health/live")[0] == 200
        save(daemon, site.body(required="false", where=f"{{path: {path}, mode: '0600'}}"))
        wait_for(path.exists)
        assert get(path, "/health/live")[0] == 200
        assert path.stat().st_mode & 0o777 == 0o600
        wait_for(lambda: not answers(site.port))
        save(daemon, site.body(required="false", where=f"{{path: {path}, mode: '0660'}}"))
        wait_for(lambda: path.stat().st_mode & 0o777 == 0o660)
        assert get(path, "/health/live")[0] == 200
        with socket.create_server(("127.0.0.1", site.port)):
            before = daemon.status()["generation"]
            save(daemon, site.body(required="false"))
            wait_for(lambda: daemon.status()["config"]["problems"])
            assert "Address already in use" in daemon.status()["config"]["problems"][0]
            assert daemon.status()["generation"] == before
            assert get(path, "/health/live")[0] == 200
        save(daemon, site.body(required="false", where="null"))
        wait_for(lambda: not path.exists())
        assert daemon.status()["metrics"] == ""
        save(daemon, site.body(required="false"))
        wait_for(lambda: answers(site.port))
        assert daemon.status()["metrics"] == f"http://127.0.0.1:{site.port}"
        assert daemon.status()["degradations"].keys() == {"model.bad"}
    finally:
        assert daemon.stop() == 0
    assert not answers(site.port)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def test_a_port_in_use_at_boot_costs_the_figures_alone(site: Site) -> None:
    daemon = listening(site, required="false")
    with socket.create_server(("127.0.0.1", site.port)):
        daemon.start()
        try:
            assert daemon.status()["ready"]
            assert "Address already in use" in daemon.status()["degradations"]["metrics"]
            # A change of something else is taken, with the port still in use.
            save(daemon, site.body(required="false").replace("settle: 20ms", "settle: 30ms"))
            wait_for(lambda: daemon.status()["generation"] == 2)
            assert "metrics" in daemon.status()["degradations"]
        except BaseException:
            daemon.stop()
            raise
    try:
        save(daemon, site.body(required="false"))
        wait_for(lambda: answers(site.port))
        wait_for(lambda: "metrics" not in daemon.status()["degradations"])
    finally:
        assert daemon.stop() == 0


class TestPages:
    """What the pages say, without a socket."""

    def make(self, now: list[int], made: list[int]) -> Probes:
        def families() -> list[Family]:
            made.append(1)
            return [Family(Figure("edged_made", Kind.COUNTER, "x."), {(): len(made)})]

        return Probes(Dataplane(), families, lambda: now[0])

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def test_a_flood_of_scrapes_costs_one_text_a_second(self) -> None:
        now, made = [0], list[int]()
        probes = self.make(now, made)

        async def work() -> None:
            for number in range(50):
                # Whatever the Accept header says: it is a peer's.
                reply = await probes.metrics(Request("/metrics", f"text/x{number}"))
                assert reply.status == 200
            await asyncio.gather(*(probes.metrics(Request("/metrics")) for _ in range(50)))
            assert len(made) == 1
            now[0] = 10**9
            await probes.metrics(Request("/metrics"))
            assert len(made) == 2

        self.run(work())

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def missing(*_: object) -> Any:
            raise ConfigError("run: pip install")

        monkeypatch.setattr(probes, "render", missing)
        page = self.make([0], [])

        async def work() -> None:
            reply = await page.metrics(Request("/metrics"))
            assert (reply.status, reply.body) == (503, b"run: pip install\n")
            assert (await page.live(Request("/health/live"))).status == 200

        self.run(work())

    def test_starting_serving_stopping(self) -> None:
        dataplane = Dataplane()
        page = Probes(dataplane, list)

        async def ready() -> tuple[int, Any]:
            reply = await page.ready(Request("/health/ready"))
            return reply.status, json.loads(reply.body)

        async def work() -> None:
            status, document = await ready()
            assert (status, document["not_ready"]) == (503, {"edged": "the daemon is starting"})
            dataplane.swap(ServingTable(1, {}))
            assert await ready() == (200, {"ready": True})
            dataplane.is_draining = True
            assert (await ready())[1]["not_ready"] == {"edged": "the daemon is stopping"}

        self.run(work())


def test_the_status_command_for_scripts(site: Site) -> None:
    with running(site.directory, HEAD + "models:\n  bad: {bundle: bad-1.edgb}\n") as daemon:

        def ask() -> tuple[int, str]:
            done = subprocess.run(
                [*EDGED, "status", "--ready", "--socket", str(daemon.socket)],
                capture_output=True, text=True, timeout=30, check=False,
            )  # fmt: skip
            return done.returncode, done.stdout

        status, said = ask()
        assert status == 69
        assert said.startswith('NOT READY: bad: model "bad" is not ready: release 1 is failed: ')
        assert said.count("\n") == 1
        document = daemon.status()
        assert document["degraded_for_s"].keys() == document["degradations"].keys()
        assert all(0 <= age <= document["uptime_s"] for age in document["degraded_for_s"].values())
        daemon.write(HEAD + "models:\n  m: {bundle: m-1.edgb}\n")
        wait_for(lambda: daemon.status()["ready"])  # cheaper than a command each time
        assert ask() == (0, "ready\n")
