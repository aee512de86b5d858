"""A registry: its documents held against digests, the layer that is meant, and its token servers."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

import pytest

pytest.importorskip("urllib3")

from edged.errors import BundleError, DeniedError, DigestMismatchError, EdgedError
from edged.sources import oci
from edged.sources.found import Found
from edged.sources.oci import BUNDLE_TYPE, TokenDesk, find
from edged.sources.web import Web
from tests.sources.server import Request, Server, web_server

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PACKED = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER = "sha256:" + "1" * 64
MOST = 1 << 30


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(kind: str = BUNDLE_TYPE, **more: object) -> dict[str, Any]:
    return {"mediaType": kind, "digest": LAYER, "size": 1000, **more}


def image(*layers: object, **more: object) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers, **more}
    ).encode()


OURS = {"annotations": {"edged.bundle.file": "models/m-1.edgb"}}


class Registry:
    def __init__(self, server: Server) -> None:
        self.server = server
        server.serve_files()

    def put(self, data: bytes, tag: str = "") -> str:
        for name in filter(None, (digest(data), tag)):
            self.server.files[f"/v2/a/m/manifests/{name}"] = data
        return digest(data)

    def find(self, tag: str = "stable", wanted: str = "") -> Found:
        return find(Web(self.server.url, timeout_s=5.0), "a/m", tag, wanted, MOST)


@pytest.fixture
def registry(server: Server) -> Registry:
    return Registry(server)


def entry(name: str, architecture: str) -> dict[str, Any]:
    return {
        "mediaType": MANIFEST,
        "digest": name,
        "size": 5,
        "platform": {"architecture": architecture},
    }


class TestWhichIsMeant:
    def test_an_artefact(self, registry: Registry):
        name = registry.put(image(layer()), "stable")
        found = registry.find()
        assert found.url == f"{registry.server.url}/v2/a/m/blobs/{LAYER}"
        assert (found.digest, found.wanted.size, found.wanted.sha256) == (name, 1000, "1" * 64)
        assert not found.is_packed
        sent = registry.server.asked[0].headers["accept"]
        assert MANIFEST in sent
        assert INDEX in sent

    def test_an_image_of_ours_and_what_it_was_put_on(self, registry: Registry):
        base = layer(PACKED, digest="sha256:" + "2" * 64)
        registry.put(image(base, layer(PACKED), **OURS), "stable")
        found = registry.find()
        assert found.is_packed
        assert found.wanted.sha256 == "1" * 64

    @pytest.mark.parametrize(("machine", "layer_of"), [("x86_64", "2"), ("aarch64", "3")])
    def test_the_one_for_this_processor(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, machine: str, layer_of: str
    ):
        monkeypatch.setattr(oci.platform, "machine", lambda: machine)
        one = registry.put(image(layer(digest="sha256:" + "2" * 64)))
        two = registry.put(image(layer(digest="sha256:" + "3" * 64)))
        index = {"manifests": [entry("x", "s390x"), entry(two, "arm64"), entry(one, "amd64")]}
        name = registry.put(json.dumps(index).encode(), "stable")
        found = registry.find()
        assert found.wanted.sha256 == layer_of * 64
        assert found.digest == name, "what the tag meant, not what it led to"

    def test_a_digest_goes_before_the_tag(self, registry: Registry):
        name = registry.put(image(layer()))
        assert registry.find("none", name).digest == name
        assert registry.server.paths() == [f"/v2/a/m/manifests/{name}"]

    def test_one_of_any_processor_where_there_is_no_other(self, registry: Registry):
        name = registry.put(image(layer()))
        for listed in ({"mediaType": MANIFEST, "digest": name}, entry(name, "none")):
            registry.put(json.dumps({"manifests": [listed]}).encode(), "stable")
            assert registry.find().wanted.sha256 == "1" * 64


class TestLies:
    @pytest.mark.hostile("X4 bytes of another digest than stated")
    def test_another_document_than_the_digest(self, registry: Registry):
        name = registry.put(image(layer()))
        registry.server.files[f"/v2/a/m/manifests/{name}"] = image(layer(), layer())
        with pytest.raises(DigestMismatchError, match="changed on its way"):
            registry.find("none", name)

    @pytest.mark.hostile("X11 a tag or file that changes between two requests")
    def test_an_index_whose_image_is_another_meanwhile(self, registry: Registry):
        good, bad = image(layer()), image(layer(digest="sha256:" + "6" * 64))
        listed = [entry(digest(good), oci._ARCHITECTURES[platform.machine()])]
        registry.put(json.dumps({"manifests": listed}).encode(), "stable")
        registry.server.files[f"/v2/a/m/manifests/{digest(good)}"] = bad
        with pytest.raises(DigestMismatchError):
            registry.find()

    def test_another_digest_in_its_header(self, registry: Registry):
        registry.put(image(layer()), "stable")
        registry.server.serve_files(docker_content_digest="sha256:" + "7" * 64)
        with pytest.raises(DigestMismatchError):
            registry.find()

    @pytest.mark.parametrize(
        "document",
        [
            b"", b"[]", b"{}", b"[" * 99999, b" " * (5 << 20), image(), image(layer("text/plain")),
            image(layer(PACKED)), image(layer(PACKED), layer("text/plain"), **OURS), image(1, **OURS),
            image(layer(), layer()), image(*[layer()] * 1001), image(layer(digest="sha512:1")),
            image(layer(digest="sha256:../../x")), image(layer(digest=7)), image(layer(size=-1)),
            image(layer(size="5")), image(layer(size=2 << 30)), b'{"manifests": []}',
            b'{"manifests": {}}', b'{"manifests": [1, 2]}', b'{"manifests": null}', b'{"layers": {}}',
            json.dumps({"manifests": [entry("../x", "none")]}).encode(),
            json.dumps({"manifests": [entry(LAYER, "s390x"), entry(LAYER, "ppc64")]}).encode(),
            json.dumps({"manifests": [{"mediaType": INDEX, "digest": LAYER}]}).encode(),
        ],
    )  # fmt: skip
    def test_documents_that_are_none(self, registry: Registry, document: bytes):
        registry.put(document, "stable")
        with pytest.raises(EdgedError):
            registry.find()

    def test_an_index_in_an_index_ends(self, registry: Registry):
        inner = registry.put(json.dumps({"manifests": [entry(LAYER, "none")]}).encode())
        registry.put(json.dumps({"manifests": [entry(inner, "none")]}).encode(), "stable")
        with pytest.raises(BundleError, match="no image manifest with layers"):
            registry.find()


LOGIN = "Basic dTpw"


def asks_for_a_token(server: Server, realm: str, token: str = "tok") -> None:
    """A registry, and at /token its token server."""

    def answer(request: Request) -> None:
        if request.path.startswith("/token"):
            request.reply(200, json.dumps({"token": token}).encode())
        elif request.headers.get("authorization") == "Bearer tok":
            request.reply(200, image(layer()))
        else:
            demand = f'Bearer realm="{realm}",service="s",scope="repository:a/m:pull"'
            request.reply(401, www_authenticate=demand)

    server.answer = answer


def registry_web(server: Server, token_server: str = "") -> Web:
    web = Web(server.url, LOGIN, timeout_s=5.0)
    web.challenge = TokenDesk(web, LOGIN, token_server).meet
    return web


class TestTokens:
    def test_at_the_registry_itself(self, server: Server):
        asks_for_a_token(server, server.url + "/token")
        assert find(registry_web(server), "a/m", "stable", "", MOST).wanted.size == 1000
        first, desk, again = server.asked
        assert desk.path == "/token?service=s&scope=repository%3Aa%2Fm%3Apull"
        shown = [one.headers["authorization"] for one in (first, desk, again)]
        assert shown == [LOGIN, LOGIN, "Bearer tok"]

    @pytest.mark.hostile("X13 a token server that nobody named")
    def test_elsewhere(self, server: Server):
        with web_server() as other:
            other.answer = lambda request: request.reply(200, b'{"access_token": "tok"}')
            asks_for_a_token(server, other.url + "/token")
            with pytest.raises(DeniedError, match="write token_server: http://127"):
                find(registry_web(server), "a/m", "stable", "", MOST)
            assert other.asked == []
            assert find(registry_web(server, other.url), "a/m", "stable", "", MOST)
            assert other.asked[0].headers["authorization"] == LOGIN

    @pytest.mark.parametrize(
        "demand",
        ["", "Basic realm=x", "Bearer", 'Bearer realm=""', 'Bearer realm="file:///x"', "B" * 9999],
    )
    def test_demands_that_are_none(self, server: Server, demand: str):
        server.answer = lambda request: request.reply(401, www_authenticate=demand)
        with pytest.raises(EdgedError):
            find(registry_web(server), "a/m", "stable", "", MOST)
        assert len(server.asked) == 1

    @pytest.mark.parametrize("token", ["", "a b", "x\r\ny: z", "x" * 20_000, "é"])
    def test_tokens_that_are_none(self, server: Server, token: str):
        asks_for_a_token(server, server.url + "/token", token)
        with pytest.raises(BundleError, match="has no token"):
            find(registry_web(server), "a/m", "stable", "", MOST)
