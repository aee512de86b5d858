"""A mirror's folder as a web server gives it out, held against what the daemon's reader takes."""

import functools
import hashlib
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from converters.cli import main
from converters.errors import ConversionError
from converters.publishing import mirror
from converters.publishing.mirror import publish_to_mirror
from edged.errors import BundleError
from tests.bundles import make_bundle
from tests.models import double


def index_of(folder, name="gate"):
    return json.loads((folder / name / "index.json").read_text())


def another(folder, key, release, **more):
    file = folder / f"made-{release}.edgb"
    file.unlink(missing_ok=True)
    return make_bundle(file, double(**more), release=release, key=key)


def test_the_list_says_what_the_file_is(bundle, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "CHUNK_BYTES", 1000)
    lines = publish_to_mirror(bundle, f"{tmp_path}/out:stable", [keys[0][1]], 1)
    file = tmp_path / "out/gate/gate-1.edgb"
    assert file.read_bytes() == bundle.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o644
    index = index_of(tmp_path / "out")
    (entry,) = index["releases"]
    assert (index["format"], index["name"], index["tags"]) == (
        "edged-mirror-v1", "gate", {"stable": 1},
    )  # fmt: skip
    data = bundle.read_bytes()
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert entry["chunks"] == [
        hashlib.sha256(data[at : at + 1000]).hexdigest() for at in range(0, len(data), 1000)
    ]
    said = "\n".join(lines)
    assert "signature: ok, by" in said
    assert "tag: stable is release 1" in said


def test_releases_are_added_and_tags_move(bundle, keys, tmp_path):
    key, out = keys[0][0], tmp_path / "out"
    publish_to_mirror(bundle, f"{out}:stable", [], 1)
    publish_to_mirror(another(tmp_path, key, 3), str(out), [], 1)
    lines = publish_to_mirror(another(tmp_path, key, 2), f"{out}:stable", [], 1)
    assert lines[-1] == "tag: stable is release 2 (was 1)"
    index = index_of(out)
    assert [one["release"] for one in index["releases"]] == [1, 2, 3]
    assert index["tags"] == {"stable": 2}
    before = every(out)
    assert publish_to_mirror(another(tmp_path, key, 2), f"{out}:stable", [], 1)
    assert every(out) == before


def every(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_refused_changes_nothing(bundle, keys, tmp_path):
    out = tmp_path / "out"
    publish_to_mirror(bundle, f"{out}:stable", [], 1)
    before = every(out)
    with pytest.raises(BundleError):
        publish_to_mirror(bundle, f"{out}:stable", [keys[1][1]], 1)
    with pytest.raises(ConversionError, match="never used twice"):
        publish_to_mirror(another(tmp_path, keys[0][0], 1, factor=3), f"{out}:stable", [], 1)
    assert every(out) == before
    for junk in ("", "[]", "{}", '{"format": "edged-mirror-v1", "name": "other"}'):
        (out / "gate/index.json").write_text(junk)
        with pytest.raises(ConversionError, match=r"index\.json"):
            publish_to_mirror(bundle, str(out), [], 1)
    (tmp_path / "file").touch()
    with pytest.raises(ConversionError, match="file"):
        publish_to_mirror(bundle, f"{tmp_path}/file", [], 1)


def test_a_web_server_of_the_standard_library_will_do(bundle, keys, tmp_path, capsys):
    pytest.importorskip("urllib3")
    from edged.sources.mirror import find
    from edged.sources.web import Web

    words = [str(bundle), "--mirror", f"{tmp_path}/out:stable", "--key", str(keys[0][1])]
    assert main(["publish", *words]) == 0, capsys.readouterr().err

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_words):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "out"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = find(Web(f"http://127.0.0.1:{server.server_port}"), "gate", "stable", "", 1 << 30)
        server.shutdown()
    assert found.wanted.size == bundle.stat().st_size


def test_one_of_both_places_is_needed(bundle, tmp_path):
    with pytest.raises(SystemExit):
        main(["publish", str(bundle)])
    both = ["--mirror", str(tmp_path / "m"), "--oci", str(tmp_path / "o")]
    with pytest.raises(SystemExit):
        main(["publish", str(bundle), *both])
