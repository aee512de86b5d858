"""The list of a mirror: which release is meant, and lists that are wrong."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

pytest.importorskip("urllib3")

from edged.errors import BundleError, EdgedError, NotFoundError
from edged.sources.found import Found
from edged.sources.mirror import find
from edged.sources.web import Web
from tests.sources.server import Server

MOST = 1 << 30


def release(number: int, **more: object) -> dict[str, Any]:
    return {
        "release": number, "digest": f"sha256:{number:064x}", "file": f"digits-{number}.edgb",
        "size": 100_000, "sha256": f"{number + 100:064x}", "chunk_size": 65536,
        "chunks": ["a" * 64, "b" * 64], **more,
    }  # fmt: skip


LIST: dict[str, Any] = {
    "format": "edged-mirror-v1", "name": "digits", "tags": {"stable": 2, "9": 1},
    "releases": [release(1), release(3), release(2)],
}  # fmt: skip


def ask(server: Server, document: object, tag: str = "stable", digest: str = "") -> Found:
    server.files["/b/digits/index.json"] = json.dumps(document).encode()
    server.serve_files()
    return find(Web(server.url + "/b/", timeout_s=5.0), "digits", tag, digest, MOST)


@pytest.mark.parametrize(
    ("tag", "digest", "number"),
    [
        ("stable", "", 2), ("latest", "", 3), ("1", "", 1), ("9", "", 1),
        ("stable", f"sha256:{1:064x}", 1),
    ],
)  # fmt: skip
def test_which_is_meant(server: Server, tag: str, digest: str, number: int):
    found = ask(server, LIST, tag, digest)
    assert found.url == f"{server.url}/b/digits/digits-{number}.edgb"
    assert found.digest == f"sha256:{number:064x}"
    assert found.bundle == f"{number:064x}"
    assert found.wanted.sha256 == f"{number + 100:064x}"
    assert (found.wanted.chunk_size, len(found.wanted.chunks)) == (65536, 2)


@pytest.mark.parametrize(("tag", "digest"), [("none", ""), ("7", ""), ("x", "sha256:" + "f" * 64)])
def test_what_it_has_not(server: Server, tag: str, digest: str):
    with pytest.raises(NotFoundError, match=r"tags: 9, stable; releases: 1, 2, 3"):
        ask(server, LIST, tag, digest)
    with pytest.raises(NotFoundError, match="tags: none; releases: none"):
        ask(server, {**LIST, "tags": {}, "releases": []})


@pytest.mark.parametrize("tag", ["", "\x1b]0;x\x07", "a\nb", "x" * 129])
def test_tags_that_are_none(server: Server, tag: str):
    with pytest.raises(BundleError, match=r"index.json: .*\$\.tags") as caught:
        ask(server, {**LIST, "tags": {tag: 1}}, "none")
    assert tag not in caught.value.message or not tag


@pytest.mark.hostile("X12 names in a list of files that are paths or addresses")
@pytest.mark.parametrize(
    "file",
    ["../x", "/etc/passwd", "a/b", "http://evil/x", "", "x" * 200, "..", "a..b", ".x", "a\0"],
)
def test_names_that_are_none(server: Server, file: str):
    with pytest.raises(BundleError, match="no name of a file"):
        ask(server, {**LIST, "releases": [release(2, file=file)]})
    assert server.paths() == ["/b/digits/index.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "edged-mirror-v2"}, {"format": 1}, {"tags": []}, {"tags": {"stable": "2"}},
        {"releases": {}}, {"releases": [release(2, size=0)]}, {"releases": [release(2, size=-1)]},
        {"releases": [release(2, size=1 << 40)]}, {"releases": [release(2, chunks=[])]},
        {"releases": [release(2, chunks=["a" * 64])]}, {"releases": [release(2, chunks=["a"] * 2)]},
        {"releases": [release(2, chunk_size=0)]}, {"releases": [release(2, chunk_size=1)]},
        {"releases": [release(2, sha256="x")]}, {"releases": [release(2, digest="md5:1")]},
        {"releases": [release(0)]}, {"releases": [release(2**60)]},
        {"tags": {str(n): 1 for n in range(1001)}}, {"releases": [release(1)] * 1001},
    ],
)  # fmt: skip
def test_lists_that_are_wrong(server: Server, change: dict[str, Any]):
    with pytest.raises(BundleError):
        ask(server, {**copy.deepcopy(LIST), **change})


@pytest.mark.parametrize("data", [b"", b"[]", b"<html>", b"[" * 99999, b"{}", b" " * (5 << 20)])
def test_no_list(server: Server, data: bytes):
    server.files["/digits/index.json"] = data
    server.serve_files()
    with pytest.raises(EdgedError):
        find(Web(server.url, timeout_s=5.0), "digits", "stable", "", MOST)


def test_words_that_are_not_known_yet_are_no_error(server: Server):
    assert ask(server, {**LIST, "signed": 1, "releases": [release(2, note="x")]}).digest
