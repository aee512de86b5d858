"""The client of a tracking server, against one that answers whatever it likes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries import mlflow_server
from converters.registries.mlflow_server import ServerStore
from converters.registries.mlflow_uri import ModelUri
from edged.errors import DeniedError, EdgedError, NotFoundError

ARTEFACTS = "mlflow-artifacts/artifacts"
VERSION = {
    "model_version": {
        "name": "scorer", "version": "3", "run_id": "r", "source": "models:/m-1",
        "tags": [{"key": "a", "value": "b"}],
    }
}  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    """A server whose ``answers`` map a path (without /api/2.0/) to JSON, bytes or a status."""
    for name in ("TOKEN", "USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setattr(mlflow_server, "TIMEOUT_S", 10.0)

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            path, _, query = self.path.removeprefix("/api/2.0/").partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            http.asked.append((self.command, path, query, body, self.headers.get("Authorization")))
            found = http.answers.get(f"{path}?{query}", http.answers.get(path, 404))
            if isinstance(found, tuple):  # a redirect
                self.send_response(found[0])
                self.send_header("Location", found[1])
                self.end_headers()
                return
            status = found if isinstance(found, int) else 200
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            if isinstance(found, int):
                data = b'{"error_code": "X", "message": "because"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer  # noqa: N815

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.answers, http.asked = {}, []
    http.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_alias_and_its_files(server, tmp_path):
    server.answers = {
        "mlflow/registered-models/alias": VERSION,
        "mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/0/m/a"},
        f"{ARTEFACTS}?path=0%2Fm%2Fa": {
            "files": [{"path": "MLmodel"}, {"path": "data", "is_dir": True}]
        },
        f"{ARTEFACTS}?path=0%2Fm%2Fa%2Fdata": {"files": [{"path": "w.bin"}]},
        f"{ARTEFACTS}/0/m/a/MLmodel": b"flavors: {}",
        f"{ARTEFACTS}/0/m/a/data/w.bin": b"\0" * 10,
    }
    store = ServerStore(server.url + "/")
    version = store.version(ModelUri("scorer", alias="champion"))
    assert (version.version, version.model_id, version.tags) == (3, "m-1", {"a": "b"})
    folder = store.fetch(version.location, tmp_path)
    assert (folder / "MLmodel").read_bytes() == b"flavors: {}"
    assert (folder / "data/w.bin").stat().st_size == 10


@pytest.mark.hostile("T5 a tracking server that lists .., sends elsewhere or never ends")
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/evil", "..", ".", "", "a\\evil"])
def test_names_that_leave_the_folder_are_refused(server, tmp_path, name):
    server.answers = {ARTEFACTS: {"files": [{"path": name}]}}
    with pytest.raises(ConversionError, match="no file name"):
        ServerStore(server.url).fetch("mlflow-artifacts:/m", tmp_path)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.hostile("T5 a tracking server that lists .., sends elsewhere or never ends")
def test_folders_without_end_and_files_without_end(server, tmp_path, monkeypatch):
    server.answers = {ARTEFACTS: {"files": [{"path": "d", "is_dir": True}]}}
    with pytest.raises(ConversionError, match="too many or too deep"):
        ServerStore(server.url).fetch("mlflow-artifacts:/m", tmp_path)
    monkeypatch.setattr(mlflow_server, "MAX_DOWNLOAD_BYTES", 5)
    (tmp_path / "again").mkdir()
    server.answers = {ARTEFACTS: {"files": [{"path": "f"}]}, f"{ARTEFACTS}/m/f": b"123456"}
    with pytest.raises(ConversionError, match="over 5 bytes"):
        ServerStore(server.url).fetch("mlflow-artifacts:/m", tmp_path / "again")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (404, NotFoundError, "because"),
        (401, DeniedError, "MLFLOW_TRACKING_USERNAME"),
        (403, DeniedError, "MLFLOW_TRACKING_USERNAME"),
        (500, ConversionError, "said 500: because"),
        (b"<html>", ConversionError, "did not answer in JSON"),
        (b"[1]", ConversionError, "something else"),
        ({"x": 1}, ConversionError, "without model_version"),
        ((302, "http://127.0.0.1:9/elsewhere"), ConversionError, "said 302"),
    ],
)
def test_whatever_it_answers_is_one_sentence(server, answer, kind, words):
    server.answers = {"mlflow/registered-models/alias": answer}
    with pytest.raises(kind, match=words):
        ServerStore(server.url).version(ModelUri("scorer", alias="a"))
    assert len(server.asked) == 1


@pytest.mark.hostile("T5 a tracking server that lists .., sends elsewhere or never ends")
def test_a_password_goes_to_the_named_server_only(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    server.answers = {"mlflow/registered-models/alias": (302, f"{server.url}/api/2.0/other")}
    with pytest.raises(ConversionError) as caught:
        ServerStore(server.url).version(ModelUri("scorer", alias="a"))
    assert [entry[1] for entry in server.asked] == ["mlflow/registered-models/alias"]
    assert server.asked[0][4] == "Basic bWU6c2VjcmV0"
    assert "secret" not in caught.value.message
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    with pytest.raises(EdgedError):
        ServerStore(server.url).version(ModelUri("scorer", alias="a"))
    assert server.asked[1][4] == "Bearer t"


def test_what_is_written(server):
    server.answers = {
        "mlflow/model-versions/get": VERSION,
        "mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/m"},
        "mlflow/model-versions/set-tag": {},
        "mlflow/registered-models/alias": {},
        f"{ARTEFACTS}/m/edged/r.json": b"",
    }
    store = ServerStore(server.url)
    version = store.version(ModelUri("scorer", version=3))
    server.asked.clear()
    store.set_tags(version, {"k": "v"})
    store.set_alias(version, "champion")
    store.put(version.location, "edged/r.json", b"{}")
    assert [(method, path) for method, path, *_ in server.asked] == [
        ("POST", "mlflow/model-versions/set-tag"),
        ("POST", "mlflow/registered-models/alias"),
        ("PUT", f"{ARTEFACTS}/m/edged/r.json"),
    ]
    assert json.loads(server.asked[1][3]) == {"name": "scorer", "alias": "champion", "version": "3"}
    assert server.asked[2][3] == b"{}"


def test_latest_runs_and_ids(server):
    server.answers = {
        "mlflow/model-versions/search": {"model_versions": [{"version": "3"}]},
        "mlflow/model-versions/get": VERSION,
        "mlflow/model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/m"},
        "mlflow/logged-models/m-1": {"model": {"info": {"artifact_uri": "u", "name": "net"}}},
        "mlflow/runs/get": {
            "run": {
                "info": {"artifact_uri": "a"},
                "outputs": {"model_outputs": [{"model_id": "m-1"}]},
            }
        },
    }
    store = ServerStore(server.url)
    assert store.version(ModelUri("scorer")).version == 3
    assert store.logged_model("m-1") == "u"
    assert store.run_model("r", "net") == "u"
    assert store.run_model("r", "old") == "a/old"
    server.answers["mlflow/model-versions/search"] = {}
    with pytest.raises(NotFoundError, match="latest is not in"):
        store.version(ModelUri("scorer"))


def test_artefacts_that_the_server_does_not_hand_out(server, tmp_path):
    with pytest.raises(UnsupportedModelError, match="mlflow artifacts download"):
        ServerStore(server.url).fetch("s3://bucket/m", tmp_path)
    server.answers = {ARTEFACTS: {"files": []}}
    with pytest.raises(NotFoundError, match="is empty"):
        ServerStore(server.url).fetch("mlflow-artifacts:/m", tmp_path)


def test_nobody_there_and_urls_that_are_none():
    with pytest.raises(ConversionError, match="refused"):
        ServerStore("http://127.0.0.1:9").version(ModelUri("scorer", version=1))
    for url in ("http://", "http://me:secret@host"):
        with pytest.raises(ConversionError, match="expected http") as caught:
            ServerStore(url)
        assert "secret" not in caught.value.message
