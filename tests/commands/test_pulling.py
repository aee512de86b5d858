"""Bundles that are pulled: from a real registry, from a mirror, and from servers that lie."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("urllib3")

from converters.publishing import mirror
from converters.publishing.mirror import publish_to_mirror
from converters.publishing.publish import publish
from edged.cli import main
from edged.commands.downloads import FOLDER
from edged.commands.pulling import Meter, Pulled, pull, pull_model
from edged.config.documents import FOLDER as DOCUMENTS
from edged.errors import (
    ApplyError,
    BundleError,
    ConfigError,
    DeniedError,
    EdgedError,
    IncompatibleError,
    NotFoundError,
    SignatureError,
    SourceError,
)
from edged.generation.documents import Documents
from edged.sources import download
from edged.store.floors import Floors
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.models import double
from tests.sources.registry import PASSWORD, USER, Registry, registry
from tests.sources.server import Request, Server, web_server


class Box:
    """A device: its configuration, keys and bundles; and what is published for it."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        (folder / "bundles").mkdir()
        generate_key(folder / "site")
        generate_key(folder / "stranger")
        self.configure(f"{{kind: mirror, url: {server.url}, insecure: true}}")

    def configure(self, source: str, pull_: str = "files/m:stable") -> None:
        (self.folder / "edged.yaml").write_text(
            f"trust: {{keys: [site.pub]}}\nstate_dir: state\nsources: {{files: {source}}}\n"
            f"models:\n  m: {{bundle: bundles/m-*.edgb, pull: {pull_}}}\n"
            "  other: {bundle: bundles/other-*.edgb}\n"
        )
        (self.folder / "state").mkdir(exist_ok=True)

    def bundle(self, release: int, *, name: str = "m", key: str = "site", size: int = 0, **more):
        file = self.folder / f"made-{name}-{release}.edgb"
        file.unlink(missing_ok=True)
        signer = self.folder / f"{key}.key" if key else None
        provenance = {"note": "x" * size} if size else {}
        return make_bundle(
            file, double(**more), name=name, release=release, key=signer, provenance=provenance
        )

    def mirror(self, release: int, **more: object) -> Path:
        """Publish one on the server as stable."""
        file = self.bundle(release, **more)  # type: ignore[arg-type]
        publish_to_mirror(file, f"{self.folder}/www:stable", [], 1)
        for path in (self.folder / "www").rglob("*"):
            if path.is_file():
                self.server.files[f"/{path.relative_to(self.folder / 'www')}"] = path.read_bytes()
        self.server.serve_files(etag=f'"{release}"')
        return file

    def pull(self, text: str = "files/m:stable", **more: bool) -> Pulled:
        return pull(self.folder, text, **more)

    def there(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "bundles").iterdir())

    def left(self) -> list[str]:
        """What of downloads is on disk."""
        folder = self.folder / "state" / FOLDER
        return sorted({path.suffix for path in folder.iterdir()} - {".lock", ".note"})


@pytest.fixture
def server() -> Iterator[Server]:
    with web_server() as running:
        yield running


@pytest.fixture
def box(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Box:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(mirror, "CHUNK_BYTES", 64 << 10)
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0.001)
    return Box(tmp_path, server)


class TestMirror:
    def test_a_release_is_installed_once(self, box: Box):
        file = box.mirror(3)
        done = box.pull()
        assert (done.state, box.there()) == ("installed", ["m-3.edgb"])
        assert done.text == f"{box.folder}/bundles/m-3.edgb: release 3 of m"
        assert (box.folder / "bundles/m-3.edgb").read_bytes() == file.read_bytes()
        assert box.left() == []
        for again in (box.pull(), pull_model(box.folder, "m")):
            assert again.state == "current"
        assert box.server.paths().count("/m/m-3.edgb") == 1

    def test_the_next_one_comes_when_the_tag_moves(self, box: Box):
        for release in (1, 2):
            box.mirror(release)
            assert pull_model(box.folder, "m").state == "installed"
        assert box.there() == ["m-1.edgb", "m-2.edgb"]

    def test_one_that_was_signed_anew_after_its_key_was_retired(self, box: Box):
        box.mirror(3)
        assert box.pull().state == "installed"
        config = box.folder / "edged.yaml"
        config.write_text(config.read_text().replace("site.pub", "stranger.pub"))
        with pytest.raises(SignatureError):
            box.pull()
        box.mirror(3, key="stranger")
        assert box.pull().state == "installed"
        assert box.pull().state == "current"

    def test_by_number_and_digest(self, box: Box):
        box.mirror(1)
        box.mirror(2)
        assert box.pull("files/m:1").text.endswith("release 1 of m")
        index = json.loads(box.server.files["/m/index.json"])
        assert box.pull(f"files/m@{index['releases'][1]['digest']}").state == "installed"

    @pytest.mark.hostile("X10 a file that is cut off at any byte")
    def test_a_download_goes_on_in_another_process(self, box: Box):
        size = box.mirror(3, size=300_000).stat().st_size
        rest, cut = box.server.answer, 200_000

        def answer(request: Request) -> None:
            data = box.server.files.get(request.path, b"")
            if not request.path.endswith(".edgb"):
                rest(request)
            elif request.start < cut:
                request.reply(200, data[:cut], content_length=len(data), etag='"3"')
            else:
                request.reply(503)

        box.server.answer = answer
        meter = Meter()
        with pytest.raises(SourceError, match=rf"200000 of {size} bytes are kept"):
            pull(box.folder, "files/m:stable", meter=meter)
        assert meter.bytes == cut  # also of what failed: some lines are paid by them
        box.server.answer = rest
        words = ["bundle", "pull", "files/m:stable", "--config", str(box.folder), "--json"]
        run = subprocess.run(
            [sys.executable, "-m", "edged", *words], capture_output=True, timeout=60, check=False
        )
        said = json.loads(run.stdout)
        assert (said["state"], said["bytes"]) == ("installed", size - cut), run
        assert box.server.asked[-1].headers["range"] == "bytes=200000-"
        assert box.there() == ["m-3.edgb"]


@pytest.mark.slow
class TestKilled:
    @pytest.mark.parametrize(
        "point", ["pull.fetched", "install.copied", "install.named", "pull.installed"]
    )
    def test_wholly_or_not_at_all(self, box: Box, point: str):
        box.mirror(3)
        words = ["bundle", "pull", "files/m:stable", "--config", str(box.folder)]
        run = subprocess.run(
            [sys.executable, "-m", "edged", *words], env={**os.environ, "EDGED_FAULT_AT": point},
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert run.returncode == 137, run
        is_there = point in ("install.named", "pull.installed")
        assert ("m-3.edgb" in box.there()) == is_there
        before = box.server.paths().count("/m/m-3.edgb")
        assert box.pull().state in ("installed", "current")
        assert box.server.paths().count("/m/m-3.edgb") == before, "nothing is fetched twice"
        assert "m-3.edgb" in box.there()


class TestRefused:
    """By what refuses an installed file too; nothing is left, and it is not fetched again."""

    @pytest.mark.hostile("X14 a bundle that install would refuse")
    @pytest.mark.parametrize("key", ["", "stranger"])
    def test_by_its_first_bytes(self, box: Box, key: str):
        box.mirror(3, key=key)
        sent = []
        rest = box.server.answer

        def answer(request: Request) -> None:
            if request.path.endswith(".edgb"):
                data = box.server.files[request.path]
                # The rest never comes: what is refused is refused without it.
                request.reply(200, data[:-100], content_length=len(data))
                sent.append(request)
                box.server.stopped.wait(30)
            else:
                rest(request)

        box.server.answer = answer
        with pytest.raises(SignatureError):
            box.pull()
        assert (box.there(), box.left(), len(sent)) == ([], [], 1)
        with pytest.raises(BundleError, match="refused before"):
            pull_model(box.folder, "m")
        assert len(sent) == 1

    def test_it_is_tried_again_when_the_configuration_or_the_source_changes(self, box: Box):
        box.mirror(3, key="stranger")
        with pytest.raises(SignatureError):
            pull_model(box.folder, "m")
        config = box.folder / "edged.yaml"
        config.write_text(config.read_text().replace("site.pub", "stranger.pub"))
        assert pull_model(box.folder, "m").state == "installed"
        box.mirror(4)
        with pytest.raises(SignatureError):
            pull_model(box.folder, "m")
        box.mirror(5, key="stranger")
        assert pull_model(box.folder, "m").state == "installed"
        assert box.there() == ["m-3.edgb", "m-5.edgb"]

    def test_an_older_one(self, box: Box):
        box.mirror(4)
        box.pull()
        box.mirror(3)
        with pytest.raises(IncompatibleError, match="older than release 4"):
            box.pull()
        assert box.pull(older=True).state == "installed"

    def test_of_another_model(self, box: Box):
        box.mirror(1, name="other")
        box.configure(
            f"{{kind: mirror, url: {box.server.url}, insecure: true}}", "files/other:stable"
        )
        with pytest.raises(BundleError, match="is a bundle of other"):
            pull_model(box.folder, "m")
        assert box.pull("files/other:stable").text.endswith("release 1 of other")

    def test_of_no_model(self, box: Box):
        box.mirror(1, name="nobodys")
        with pytest.raises(ConfigError, match='no model "nobodys" is configured'):
            box.pull("files/nobodys:stable")

    @pytest.mark.hostile("X4 bytes of another digest than stated")
    def test_a_damaged_file(self, box: Box):
        box.mirror(3, size=200_000)
        data = bytearray(box.server.files["/m/m-3.edgb"])
        data[-3000] ^= 1
        box.server.files["/m/m-3.edgb"] = bytes(data)
        with pytest.raises(SourceError, match="chunk"):
            box.pull()
        assert box.there() == []
        data[-3000] ^= 1
        box.server.files["/m/m-3.edgb"] = bytes(data)
        assert box.pull().state == "installed", "the server was mended"

    def test_a_list_that_names_another_bundle(self, box: Box):
        box.mirror(3)
        index = box.server.files["/m/index.json"]
        digest = json.loads(index)["releases"][0]["digest"]
        box.server.files["/m/index.json"] = index.replace(digest.encode(), b"sha256:" + b"f" * 64)
        with pytest.raises(BundleError, match="the source states another"):
            box.pull()
        assert (box.there(), box.left()) == ([], [])


class TestTheDevice:
    def test_no_room(self, box: Box, monkeypatch: pytest.MonkeyPatch):
        box.mirror(3)
        monkeypatch.setattr("edged.commands.downloads._RESERVE", 2.0**60)
        with pytest.raises(IncompatibleError, match="make room"):
            box.pull()
        assert "/m/m-3.edgb" not in box.server.paths()
        monkeypatch.undo()
        assert pull_model(box.folder, "m").state == "installed", "not held against the bundle"

    def test_too_large(self, box: Box):
        box.mirror(3)
        box.configure(f"{{kind: mirror, url: {box.server.url}, insecure: true, max_bytes: 1KiB}}")
        with pytest.raises(BundleError, match="max_bytes of the source is 1024"):
            box.pull()
        assert "/m/m-3.edgb" not in box.server.paths()

    def test_a_folder_that_cannot_be_written(self, box: Box):
        box.mirror(3)
        shutil.rmtree(box.folder / "bundles")
        with pytest.raises(BundleError, match="cannot write to"):
            box.pull()
        assert box.left() == [".json", ".part"], "what came is kept"
        (box.folder / "bundles").mkdir()
        before = box.server.paths().count("/m/m-3.edgb")
        assert pull_model(box.folder, "m").state == "installed"
        assert box.server.paths().count("/m/m-3.edgb") == before

    def test_no_state_directory(self, box: Box):
        (box.folder / "state").rmdir()
        with pytest.raises(ConfigError, match="cannot write to"):
            box.pull()

    def test_two_at_once(self, box: Box):
        box.mirror(3)
        rest = box.server.answer

        def answer(request: Request) -> None:
            if not others:
                others.append(None)
                others[0] = subprocess.run(words, capture_output=True, timeout=60, check=False)
            rest(request)

        others: list[subprocess.CompletedProcess[bytes] | None] = []
        words = [sys.executable, "-m", "edged", "bundle", "pull", "--config", str(box.folder)]
        words.append("files/m:stable")
        box.server.answer = answer
        assert box.pull().state == "installed"
        assert others[0] is not None
        assert others[0].returncode == 69
        assert b"is being pulled already" in others[0].stderr

    def test_downloads_that_nobody_goes_on_with(self, box: Box):
        box.mirror(3)
        folder = box.folder / "state" / FOLDER
        folder.mkdir()
        old, new, other = f"{1:032x}.part", f"{2:032x}.part", "none-of-ours.part"
        for name, age_s in ((old, 10**8), (new, 10), (other, 10**8)):
            (folder / name).touch()
            then = (folder / name).stat().st_mtime - age_s
            os.utime(folder / name, (then, then))
        box.pull()
        there = {path.name for path in folder.iterdir()}
        assert {old, new, other} & there == {new, other}

    def test_a_link_in_place_of_the_folder(self, box: Box, tmp_path_factory):
        """The daemon's user owns it; root, who pulls, must not be led elsewhere."""
        box.mirror(3)
        elsewhere = tmp_path_factory.mktemp("etc")
        victim = elsewhere / f"{1:032x}.part"
        victim.touch()
        os.utime(victim, (0, 0))
        (box.folder / "state" / FOLDER).symlink_to(elsewhere)
        with pytest.raises(ApplyError, match="is a link, which is not followed"):
            box.pull()
        assert [one.name for one in elsewhere.iterdir()] == [victim.name]

    def test_what_is_of_use_does_not_grow_old(self, box: Box):
        """Its lock would be removed under whoever holds it, and an image be fetched every month."""
        box.mirror(3)
        box.pull()
        folder = box.folder / "state" / FOLDER
        then = time.time() - 20 * 24 * 3600
        for path in folder.iterdir():
            os.utime(path, (then, then))
        assert box.pull().state == "current"
        ages = {path.suffix: path.stat().st_mtime for path in folder.iterdir()}
        assert ages.keys() == {".lock", ".note"}
        assert min(ages.values()) > then + 3600

    def test_another_state_directory(self, box: Box, capsys: pytest.CaptureFixture[str]):
        box.mirror(3)
        other = box.folder / "other"
        other.mkdir()
        Floors(other).rise({"m": 9})
        file = str(box.bundle(4))
        for words in (["pull", "files/m:stable"], ["install", file]):
            place = ["--config", str(box.folder), "--state-dir", str(other)]
            assert main(["bundle", *words, *place]) != 0
            assert "is below the floor of this device" in capsys.readouterr().err
        assert box.there() == []


def test_a_model_of_a_document_over_mqtt(box: Box):
    """What serves by a document is pulled by it too."""
    config = box.folder / "edged.yaml"
    line = "  m: {bundle: bundles/m-*.edgb, pull: files/m:stable}\n"
    text = config.read_text()
    assert line in text
    config.write_text(text.replace(line, "") + "mqtt: {desired: {keys: [site.pub]}}\n")
    documents = Documents(box.folder / "state" / DOCUMENTS)
    documents.begin(1, "sha1", f"models:\n{line}", "base")
    documents.take(1)
    box.mirror(3)
    assert pull_model(box.folder, "m").state == "installed"


class TestWords:
    def test_no_such_source_or_model(self, box: Box):
        with pytest.raises(
            ConfigError, match='no source "x" is configured; the sources are: files'
        ):
            box.pull("x/m")
        with pytest.raises(ConfigError, match="no such model"):
            pull_model(box.folder, "other")

    def test_the_command(self, box: Box, capsys: pytest.CaptureFixture[str]):
        def run(*words: str) -> int:
            return main(["bundle", "pull", *words, "--config", str(box.folder)])

        box.mirror(3)
        assert run("files/m:stable") == 0
        assert capsys.readouterr().out.endswith("m-3.edgb: release 3 of m\n")
        assert run("--model", "m", "--json") == 0
        assert json.loads(capsys.readouterr().out)["state"] == "current"
        assert run("files/m:none") == 66
        assert "tags: stable; releases: 3" in capsys.readouterr().err
        assert run("not a reference") == 65
        box.server.answer = lambda request: request.reply(503, retry_after="77")
        assert run("--model", "m", "--json") == 69
        assert json.loads(capsys.readouterr().out)["retry_after_s"] == 77
        box.server.answer = lambda request: request.reply(403)
        assert run("files/m:stable") == 77


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.mark.slow
class TestRegistry:
    """The distribution project's own registry."""

    @pytest.fixture
    def device(self, box: Box, real: Registry) -> Box:
        box.configure(f"{{kind: oci, url: {real.url}, insecure: true}}", "files/line/m:stable")
        return box

    def test_an_image_that_skopeo_brought(self, device: Box, real: Registry):
        file = device.bundle(1)
        publish(file, f"{device.folder}/images:m-1", [], 1, None)
        real.copy(device.folder / "images", "m-1", "line/m", "stable")
        assert pull_model(device.folder, "m").state == "installed"
        assert (device.folder / "bundles/m-1.edgb").read_bytes() == file.read_bytes()
        assert (pull_model(device.folder, "m").state, device.left()) == ("current", [])

    def test_an_artefact_and_its_digest(self, device: Box, real: Registry):
        digest = real.put_artefact("plain/m", "v2", device.bundle(2))
        assert device.pull(f"files/plain/m@{digest}").digest == digest
        assert device.there() == ["m-2.edgb"]
        real.put_artefact("plain/m", "v2", device.bundle(3))
        assert device.pull("files/plain/m:v2").state == "installed"
        assert device.pull(f"files/plain/m@{digest}").state == "current"

    def test_the_registry_goes_on_at_the_byte(self, device: Box, real: Registry):
        real.put_artefact("cut/m", "v1", device.bundle(5, size=300_000))
        with web_server() as between:  # passes on what the registry says, and breaks off once
            device.configure(f"{{kind: oci, url: {between.url}, insecure: true}}")
            between.answer = breaks_off_once(real, 100_000)
            assert device.pull("files/cut/m:v1").state == "installed"
            blobs = [one for one in between.asked if "/blobs/" in one.path]
            assert [one.headers.get("range") for one in blobs] == [None, "bytes=100000-"]

    def test_what_it_has_not(self, device: Box):
        with pytest.raises(NotFoundError):
            device.pull("files/no/such:tag")

    def test_by_name_and_password(self, box: Box, tmp_path: Path):
        (tmp_path / "word").write_text(PASSWORD)
        (tmp_path / "word").chmod(0o600)
        with registry(tmp_path / "registry", login=True) as locked:
            source = f"{{kind: oci, url: {locked.url}, insecure: true, %s}}"
            login = f"username: {USER}, password: {{file: word}}"
            box.configure(source % login)
            with pytest.raises(NotFoundError):
                box.pull()
            (tmp_path / "word").write_text("wrong")
            with pytest.raises(DeniedError) as refused:
                box.pull()
            assert "wrong" not in str(refused.value)
            box.configure(source % "timeout: 5s")
            with pytest.raises(DeniedError):
                box.pull()


def breaks_off_once(real: Registry, at: int):
    import urllib.error
    import urllib.request

    cut: list[int] = []

    def answer(request: Request) -> None:
        asked = urllib.request.Request(real.url + request.path)
        for name in ("accept", "range", "if-range"):
            if name in request.headers:
                asked.add_header(name, request.headers[name])
        try:
            with urllib.request.urlopen(asked, timeout=20) as got:
                status, body, headers = got.status, got.read(), got.headers
        except urllib.error.HTTPError as exc:
            request.reply(exc.code)
            return
        named = ("Docker-Content-Digest", "Content-Range", "ETag")
        kept = {name.replace("-", "_"): headers.get(name) for name in named}
        length = len(body)
        if "/blobs/" in request.path and not cut:
            cut.append(1)
            body = body[:at]
        request.reply(status, body, content_length=length, **kept)

    return answer


def test_errors_are_ours(box: Box):
    """Whatever a server says, an operator reads a sentence."""
    for junk in (b"", b"HTTP/1.1 200 OK\r\n\r\n\xff", b"HTTP/1.1 999 \r\n\r\n"):
        box.server.answer = lambda request, junk=junk: request.send(junk)
        with pytest.raises(EdgedError, match=r"127\.0\.0\.1|index.json"):
            box.pull()
