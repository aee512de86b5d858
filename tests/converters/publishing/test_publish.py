"""The layout is read back by the specification's rules, and by skopeo where it is installed."""

import json
import os
import shutil
import subprocess
import tarfile
from io import BytesIO

import pytest

from converters.cli import main
from converters.publishing import image as images
from converters.publishing.publish import publish
from edged.store.signing import Signer
from tests.bundles import make_bundle
from tests.converters.publishing.images import REF, make_base, read_image
from tests.models import double


def every_file(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_layout_is_what_the_specification_asks(bundle, keys, tmp_path):
    lines = publish(bundle, str(tmp_path / "out"), [keys[0][1]], 1, None)
    read = read_image(tmp_path / "out", "gate-1")
    assert [platform["architecture"] for platform, *_ in read] == ["amd64", "arm64"]
    for _, manifest, config, tars in read:
        assert config["config"]["Labels"] == manifest["annotations"]
        assert manifest["annotations"]["org.opencontainers.image.title"] == "gate"
        assert manifest["annotations"]["org.opencontainers.image.version"] == "1.0.0"
        (tar,) = tars
        with tarfile.open(fileobj=BytesIO(tar)) as archive:
            folder, file = archive.getmembers()
            assert archive.extractfile(file).read() == bundle.read_bytes()
        assert (folder.name, folder.isdir(), folder.mode) == ("models", True, 0o755)
        assert (file.name, file.isreg(), file.mode) == ("models/gate-1.edgb", True, 0o644)
        assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in (folder, file)} == {
            (0, 0, "", "", 0)
        }
    said = "\n".join(lines)
    assert "signature: ok, by" in said
    assert "linux/amd64, linux/arm64" in said
    assert "--base" in said
    digest = next(line for line in lines if line.startswith("manifest:")).split()[-1]
    assert read[0][1]["annotations"]["edged.bundle.digest"] == f"sha256:{digest}"


def test_the_same_bundle_gives_the_same_bytes(bundle, tmp_path, monkeypatch):
    publish(bundle, f"{tmp_path / 'a'}:x", [], 1, None)
    monkeypatch.setattr("time.time", lambda: 1e9)  # on any day, from a file of any time and mode
    os.utime(bundle, (7, 7))
    bundle.chmod(0o600)
    publish(bundle, f"{tmp_path / 'b'}:x", [], 1, None)
    assert every_file(tmp_path / "a") == every_file(tmp_path / "b")


def test_tags_are_added_and_replaced_and_others_stay(bundle, keys, tmp_path):
    out = tmp_path / "out"
    publish(bundle, f"{out}:stable", [], 1, None)
    before = json.loads((out / "index.json").read_text())["manifests"]
    second = make_bundle(tmp_path / "2.edgb", double(), release=2, key=keys[0][0])
    assert not any("replaced" in line for line in publish(second, str(out), [], 1, None))
    listed = json.loads((out / "index.json").read_text())["manifests"]
    assert listed[:1] == before
    lines = publish(second, f"{out}:stable", [], 1, None)
    assert f"replaced: stable was {before[0]['digest']}" in lines
    listed = json.loads((out / "index.json").read_text())["manifests"]
    assert sorted(one["annotations"][REF] for one in listed) == ["gate-2", "stable"]
    assert len({one["digest"] for one in listed}) == 1
    read_image(out, "stable")
    assert not any("replaced" in line for line in publish(second, f"{out}:stable", [], 1, None))


def test_a_bundle_that_does_not_hold_leaves_nothing(bundle, keys, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["publish", str(bundle), "--oci", str(out)]
    assert main([*words, "--key", str(keys[1][1])]) == 78
    assert "signed by 0 of 1" in capsys.readouterr().err
    both = ["--key", str(keys[0][1]), "--key", str(keys[1][1]), "--threshold", "2"]
    assert main([*words, *both]) == 78
    assert "signed by 1 of 2" in capsys.readouterr().err
    damaged = bytearray(bundle.read_bytes())
    damaged[-200] ^= 1
    bundle.write_bytes(damaged)
    assert main(words) == 78
    assert main(["publish", str(tmp_path / "none.edgb"), "--oci", str(out)]) == 78
    assert capsys.readouterr().err.count("\n") == 2
    assert not out.exists()


def test_enough_signatures_and_none(bundle, keys, tmp_path):
    from converters.verify import sign_bundle

    sign_bundle(bundle, keys[2][0])
    lines = publish(bundle, str(tmp_path / "a"), [public for _, public in keys], 2, None)
    assert "(2 required)" in lines[1]
    unsigned = make_bundle(tmp_path / "u.edgb", double())
    assert "signature: none" in publish(unsigned, str(tmp_path / "b"), [], 1, None)[1]


@pytest.mark.parametrize("is_new", [True, False])
def test_stopped_half_way_leaves_the_layout_as_it_was(bundle, tmp_path, monkeypatch, is_new):
    out = tmp_path / "out"
    if not is_new:
        publish(bundle, f"{out}:old", [], 1, None)
    index = None if is_new else (out / "index.json").read_bytes()
    monkeypatch.setattr(images, "to_json", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        publish(bundle, f"{out}:new", [], 1, None)
    assert out.exists() is not is_new
    if not is_new:
        assert (out / "index.json").read_bytes() == index
        assert not list(out.rglob(".*"))
        read_image(out, "old")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_and_copies_it(bundle, tmp_path):
    make_base(tmp_path / "base")
    publish(bundle, f"{tmp_path / 'out'}:x", [], 1, None)
    publish(bundle, f"{tmp_path / 'out'}:y", [], 1, str(tmp_path / "base"))
    for tag, platforms in (("x", 2), ("y", 1)):
        target = f"oci:{tmp_path / 'copy'}:{tag}"
        skopeo = ["skopeo", "copy", "--all", f"oci:{tmp_path / 'out'}:{tag}", target]
        done = subprocess.run(skopeo, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert len(read_image(tmp_path / "copy", tag)) == platforms


def test_the_signer_is_the_one_that_was_meant(keys):
    """The fixtures themselves: three different keys."""
    assert len({Signer.from_file(private).key_id for private, _ in keys}) == 3
