"""Rules in a real daemon, asked by processes of two users that are not its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.cli import main
from edged.client import Client
from edged.config.load import load
from edged.errors import DeniedError, EdgedError
from edged.generation.content import content_digest
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.fakes.other_user import as_user, beside, needs_root
from tests.fakes.web import Visitor, raw
from tests.models import double

pytestmark = needs_root

HER, HIM, NOBODY = 4001, 4002, 4003
CREW, ADMINS = 5001, 5002
X = np.ones((1, 4), np.float32)
GENERATE = b'{"x": [1, 1, 1, 1]}'
BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
    "models:\n  cam-1: {bundle: cam-1.edgb}\n  secret: {bundle: secret.edgb}\n"
)
RULES = (
    "access:\n  rules:\n"
    f"    - {{users: ['{HER}'], models: [cam-*], allow: [infer, metadata]}}\n"
    f"    - {{groups: ['{CREW}'], allow: [infer, status]}}\n"
)


class Guarded(DaemonProcess):
    """With both sockets open to every user of the device: the rules decide, not the files."""

    extra = ""

    def head(self) -> str:
        folder = self.directory
        return (
            f"node: test\nstate_dir: {folder}/state\nlisten:\n"
            f"  socket: {{path: {folder}/edged.sock, mode: 0666}}\n"
            f"  http: {{path: {folder}/http.sock, mode: 0666}}\n{self.extra}"
        )

    @property
    def http(self) -> Path:
        return self.directory / "http.sock"

    def settle(self) -> None:
        """Wait until what is written is what is in effect."""
        wanted = content_digest(load(self.config))
        wait_for(lambda: self.status()["config"]["digest"] == wanted)
        wait_for(lambda: self.status()["config"]["applied"])

    def change(self, body: str) -> None:
        """Write, and wait until it is in effect."""
        self.write(body)
        self.settle()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Guarded]:
    # Not below pytest's own folder, which each run of it closes to all other users.
    with tempfile.TemporaryDirectory(prefix="edged-access-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for model in ("cam-1", "secret"):
            make_bundle(folder / f"{model}.edgb", double(), name=model, release=1)
        process = Guarded(folder)
        process.write(BODY + RULES)
        try:
            yield process.start()
            assert "Traceback" not in process.log.read_text()
        finally:
            process.stop()


@pytest.fixture(autouse=True)
def _same_rules(daemon: Guarded) -> Iterator[None]:
    yield
    if daemon.config.read_text() != daemon.head() + BODY + RULES:
        daemon.change(BODY + RULES)


def said(work: Callable[[], Any]) -> str:
    """What became of it, in one word and a sentence."""
    try:
        work()
    except EdgedError as exc:
        return f"{exc.code.value}: {exc.message}"
    return "good"


def over_native(path: Path, model: str) -> str:
    with Client(path) as client:
        return said(lambda: client.infer(model, {"x": X}))


def over_http(path: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, str]:
    visitor = Visitor(path)
    with contextlib.closing(visitor):
        status, document = visitor.ask(method, target, body)
    return status, document.decode() if isinstance(document, bytes) else json.dumps(document)


def question() -> bytes:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 1, 1, 1]}
    return json.dumps({"inputs": [tensor]}).encode()


def test_each_user_gets_what_a_rule_gives(daemon: Guarded):
    her, him = (lambda m: over_native(daemon.socket, m)), daemon.socket
    assert as_user(HER, lambda: her("cam-1")) == "good"
    assert as_user(HIM, lambda: over_native(him, "cam-1")).startswith("PERMISSION_DENIED")
    assert as_user(HIM, lambda: over_native(him, "secret"), groups=(CREW,)) == "good"
    assert as_user(HIM, lambda: over_native(him, "secret"), gid=CREW) == "good"
    for page in ("generate", "generate_stream"):
        target = f"/v2/models/cam-1/{page}"
        assert as_user(HER, lambda t=target: over_http(daemon.http, "POST", t, GENERATE))[0] == 200
        assert as_user(HIM, lambda t=target: over_http(daemon.http, "POST", t, GENERATE))[0] == 403
    with daemon.client() as client:
        assert client.infer("secret", {"x": X}).release == 1


def test_a_model_that_is_forbidden_reads_as_one_that_is_not_there(daemon: Guarded):
    def ask() -> list[str]:
        found = [over_native(daemon.socket, name) for name in ("secret", "nosuch")]
        asked = {"/infer": question(), "/generate": GENERATE, "/generate_stream": GENERATE}
        pages = ("", "/ready", "/config", "/stats", "/versions/1", "/versions/9")
        for target in (*asked, *pages):
            body = asked.get(target)
            method = "GET" if body is None else "POST"
            for name in ("secret", "nosuch"):
                status, text = over_http(daemon.http, method, f"/v2/models/{name}{target}", body)
                found.append(f"{status} {text}")
        with Client(daemon.socket) as client:
            for name in ("secret", "nosuch"):
                found.append(said(lambda name=name: client.call("manifest", model=name)))
                found.append(
                    said(lambda name=name: client.prepare(name, x=((None, 4), "float32"))(x=X))
                )
        return [text.replace("secret", "M").replace("nosuch", "M") for text in found]

    found = as_user(HER, ask)
    assert {text[:17] for text in found if text[0] == "P"} == {"PERMISSION_DENIED"}
    assert all(text.startswith(("403", "PERMISSION_DENIED")) for text in found), found
    natives, pages, more = found[:2], found[2:20], found[20:]
    assert natives[0] == natives[1]
    assert pages[::2] == pages[1::2]
    assert more[:2] == more[2:]


def test_lists_leave_it_out(daemon: Guarded):
    def ask() -> list[Any]:
        index = over_http(daemon.http, "POST", "/v2/repository/index")
        stats = over_http(daemon.http, "GET", "/v2/models/stats")
        with Client(daemon.socket) as client:
            models = [one["name"] for one in client.models()]
            return [index, stats, models, said(client.status), said(lambda: client.call("metrics"))]

    index, stats, models, status, metrics = as_user(HER, ask)
    assert models == ["cam-1"]
    assert index[0] == stats[0] == 200
    assert "cam-1" in index[1]
    assert "secret" not in index[1] + stats[1]
    assert status.startswith("PERMISSION_DENIED")
    assert metrics.startswith("PERMISSION_DENIED")
    status, text = as_user(HER, lambda: over_http(daemon.http, "GET", "/metrics"))
    assert status == 403
    assert "secret" not in text
    assert as_user(HIM, lambda: said(Client(daemon.socket).status), groups=(CREW,)) == "good"


@pytest.mark.hostile("R32 a right that goes takes along what it granted")
def test_a_right_that_a_reload_takes_is_gone_at_once(daemon: Guarded):
    """Also for what was prepared, on the connection that prepared it; and it comes back."""
    asks, answers = socket.socketpair()
    answers.settimeout(60)

    def user() -> str:
        answers.close()
        with Client(daemon.socket) as client, asks.makefile("rwb", buffering=0) as line:
            call = client.prepare("cam-1", x=((None, 4), "float32"))
            while line.readline() == b"go\n":
                words = [said(lambda: call(X)) for _ in range(20)]
                words.append(said(lambda: client.infer("cam-1", {"x": X})))
                line.write(json.dumps(words).encode() + b"\n")
        return "ended"

    def go() -> set[str]:
        answers.sendall(b"go\n")
        return {word.partition(":")[0] for word in json.loads(line.readline())}

    daemon.change(BODY)  # it prepares before there is any rule
    with answers, answers.makefile("rb") as line:
        child = beside(HER, user)
        asks.close()
        try:
            assert go() == {"good"}
            daemon.change(BODY + "access: {rules: []}\n")
            assert go() == {"PERMISSION_DENIED"}
            daemon.change(BODY + RULES)
            assert go() == {"good"}
            daemon.change(BODY + RULES.replace("cam-*", "cam-2*"))
            assert go() == {"PERMISSION_DENIED"}
            daemon.change(BODY)
            assert go() == {"good"}
        finally:
            answers.shutdown(socket.SHUT_RDWR)
    assert os.waitpid(child, 0)[1] == 0


def test_administrators_have_a_socket_of_their_own(daemon: Guarded):
    admin = daemon.directory / "admin.sock"
    daemon.extra = f"  admin: {{path: {admin}, mode: 0666, group: '{ADMINS}'}}\n"
    try:
        daemon.change(BODY + RULES)
        assert (stat.S_IMODE(admin.stat().st_mode), admin.stat().st_gid) == (0o666, ADMINS)

        def reload_at(path: Path) -> str:
            with Client(path) as client:
                return said(lambda: client.call("reload"))

        def look_at(path: Path) -> str:
            with Client(path) as client:
                return said(lambda: client.call("engines", look=True))

        assert reload_at(daemon.socket).startswith("NOT_FOUND")
        assert look_at(daemon.socket).startswith("PERMISSION_DENIED"), "not even root, elsewhere"
        for ask in (reload_at, look_at):
            assert ask(admin) == "good"
            assert as_user(HIM, lambda a=ask: a(admin), groups=(ADMINS,)) == "good"
            assert as_user(HIM, lambda a=ask: a(admin), groups=(CREW,)).startswith("PERMISSION")
            assert as_user(HIM, lambda a=ask: a(daemon.socket), groups=(ADMINS,)) != "good"
        for target in ("/v2/repository/models/cam-1/load", "/v2/repository/models/cam-1/unload"):
            assert over_http(daemon.http, "POST", target, b"{}")[0] == 403
        assert as_user(HIM, lambda: over_native(admin, "secret"), groups=(ADMINS,)) != "good"
        by_hand(daemon, admin)
    finally:
        daemon.extra = ""
        daemon.change(BODY + RULES)
    assert not admin.exists()
    with daemon.client() as client:
        client.call("engines", look=True)


def by_hand(daemon: Guarded, admin: Path) -> None:
    """Loads and the log's level, over HTTP on the administrators' socket."""

    def ask(target: str, body: bytes = b"") -> tuple[int, str]:
        return over_http(admin, "POST", target, body)

    def state() -> tuple[str, str]:
        with daemon.client() as client:
            (found,) = (one for one in client.models() if one["name"] == "cam-1")
        (release,) = found["releases"]
        return release["state"], release["reason"]

    target, as_admin = "/v2/repository/models/cam-1/", (ADMINS,)
    assert as_user(HIM, lambda: ask(f"{target}unload")[0], groups=(CREW,)) == 403
    assert state()[0] == "ready"
    assert as_user(HIM, lambda: ask(f"{target}unload")[0], groups=as_admin) == 200
    assert state() == ("unloaded", "an administrator unloaded it; edged load brings it back")
    assert as_user(HER, lambda: over_native(daemon.socket, "cam-1")).startswith("UNAVAILABLE")
    status, body = as_user(HER, lambda: over_http(daemon.http, "GET", "/v2/models/cam-1/ready"))
    assert (status, "is not at ready state" in body) == (503, True)
    with daemon.client() as client:
        assert client.status()["ready"], "what is unloaded on purpose is no trouble of the daemon"
    daemon.change(BODY + RULES + "log: {level: warning}\n")
    assert state()[0] == "unloaded", "a reload of something else leaves it so"
    daemon.change(BODY + RULES)
    # The log follows behind that: asked for before, another level would be taken back by it.
    wait_for(lambda: daemon.status()["log_level"] == "info")
    assert main(["load", "cam-1", "--socket", str(admin)]) == 0
    assert state()[0] == "ready"
    assert as_user(HER, lambda: over_native(daemon.socket, "cam-1")) == "good"
    assert main(["unload", "cam-1", "--socket", str(admin)]) == 0
    assert state()[0] == "unloaded"
    assert main(["unload", "nope", "--socket", str(admin)]) == 66
    assert main(["unload", "cam-1", "--socket", str(daemon.socket)]) == 77
    assert ask(f"{target}load")[0] == 200
    assert state()[0] == "ready"
    assert ask("/v2/repository/models/none/load")[0] == 404
    assert ask(f"{target}load", b'{"parameters":{"config":"{}"}}')[0] == 400
    assert '"log_verbose_level": 1' in ask("/v2/logging", b'{"log_verbose_level":1}')[1]
    assert daemon.status()["log_level"] == "debug"
    assert over_http(daemon.http, "POST", "/v2/logging", b"{}")[0] == 403
    daemon.change(BODY + RULES.replace("cam-*", "cam-1"))
    assert daemon.status()["log_level"] == "debug", "another change leaves it"
    daemon.change(BODY + RULES + "log: {level: warning}\n")
    wait_for(lambda: daemon.status()["log_level"] == "warning")
    assert ask("/v2/trace/setting", b'{"trace_level":["TIMESTAMPS"]}')[0] == 400


def test_a_rule_for_a_user_that_is_not_there_is_refused_and_the_old_rules_hold(daemon: Guarded):
    daemon.write(BODY + "access: {rules: [{users: [no-such-user], allow: [infer]}]}\n")
    problems = wait_for(lambda: daemon.status()["config"]["problems"])
    assert "access.rules[0].users[0]: no user is named" in problems[0]
    assert as_user(HER, lambda: over_native(daemon.socket, "cam-1")) == "good"
    assert as_user(HIM, lambda: over_native(daemon.socket, "cam-1")) != "good"


def test_bounds_of_one_user_are_not_those_of_another(daemon: Guarded):
    quota = f"  quotas: [{{users: ['{HER}'], connections: 2, requests_per_second: 1, burst: 5}}]\n"
    daemon.change(BODY + RULES + quota)

    def connect() -> list[str]:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(daemon.socket, timeout=5)) for _ in range(2)]
            found = [said(lambda c=c: c.infer("cam-1", {"x": X})) for c in clients]
            found.append(said(lambda: Client(daemon.socket, timeout=5).infer("cam-1", {"x": X})))
            found.append(raw(daemon.http).decode())
            found += [said(lambda: clients[0].infer("cam-1", {"x": X})) for _ in range(8)]
        return found

    found = as_user(HER, connect)
    assert found[:2] == ["good", "good"]
    assert "the most allowed (access.quotas[0].connections)" in found[2]
    assert found[3].startswith("HTTP/1.1 429")
    assert "RESOURCE_EXHAUSTED: more than 1 requests a second of uid 4001" in found[-1]
    assert as_user(HIM, lambda: over_native(daemon.socket, "cam-1"), groups=(CREW,)) == "good"
    with daemon.client() as client:
        figures = client.call("metrics")
    assert 'edged_access_refused_total{reason="rate"} 0' not in figures
    assert 'edged_access_refused_total{reason="connections"} 2' in figures


def test_explain_says_which_rule_decides(daemon: Guarded, capsys: pytest.CaptureFixture[str]):
    def explain(*words: str) -> tuple[int, str]:
        status = main(["explain", "--config", str(daemon.config), *words])
        return status, capsys.readouterr().out

    status, text = explain("infer", "cam-1", "--user", str(HER))
    assert status == 0
    assert text.startswith(
        'allowed: infer of model "cam-1" for uid 4001 on native: access.rules[0] at'
    )
    assert "edged.yaml:13:7" in text
    status, text = explain("infer", "secret", "--user", str(HER))
    assert status == 77
    assert "denied" in text
    assert "no rule of access.rules allows it" in text
    assert explain("reload", "--user", "root")[0] == 0
    assert explain("reload", "--user", "root", "--on", "http")[0] == 77
    assert explain("infer", "cam-1")[0] == 77
    assert (
        main(["explain", "--config", str(daemon.config), "infer", "--user", "no-such-user"]) == 65
    )


def test_the_files_have_the_modes_that_are_written(daemon: Guarded):
    assert stat.S_IMODE(daemon.http.stat().st_mode) == 0o666
    assert issubclass(DeniedError, EdgedError)
