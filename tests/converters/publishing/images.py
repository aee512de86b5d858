"""OCI images read by the specification's rules, and a small one written by hand."""

import gzip
import hashlib
import json
import tarfile
from io import BytesIO

REF = "org.opencontainers.image.ref.name"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def blob(folder, descriptor):
    """A blob, whose digest and size must be what was stated."""
    algorithm, _, name = descriptor["digest"].partition(":")
    data = (folder / "blobs" / algorithm / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == name
    assert len(data) == descriptor["size"]
    return data


def read_image(folder, tag):
    """Everything below a tag: [(platform, manifest, config, [the tar of each layer])]."""
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    top = json.loads((folder / "index.json").read_text())
    assert (top["schemaVersion"], top.get("mediaType", INDEX)) == (2, INDEX)  # skopeo leaves it out
    (found,) = [one for one in top["manifests"] if one["annotations"][REF] == tag]
    assert found["mediaType"] == INDEX
    index = json.loads(blob(folder, found))
    assert (index["schemaVersion"], index["mediaType"]) == (2, INDEX)
    result = []
    for described in index["manifests"]:
        assert described["mediaType"] == MANIFEST
        manifest = json.loads(blob(folder, described))
        assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, MANIFEST)
        assert manifest["config"]["mediaType"] == CONFIG
        config = json.loads(blob(folder, manifest["config"]))
        assert config["rootfs"]["type"] == "layers"
        tars = []
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            assert layer["mediaType"] == LAYER
            tars.append(gzip.decompress(blob(folder, layer)))
            assert f"sha256:{hashlib.sha256(tars[-1]).hexdigest()}" == diff_id
        for key in ("os", "architecture"):
            assert described["platform"][key] == config[key]
        result.append((described["platform"], manifest, config, tars))
    return result


def names(tar):
    with tarfile.open(fileobj=BytesIO(tar)) as archive:
        return archive.getnames()


def make_base(folder, *, tag="box", files=("bin/sh",), change=None):
    """A small image with a layer of its own, written by hand."""
    place = folder / "blobs/sha256"
    place.mkdir(parents=True)

    def put(data, kind):
        name = hashlib.sha256(data).hexdigest()
        (place / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in files:
            archive.addfile(tarfile.TarInfo(name))
    tar = stream.getvalue()
    config = {
        "os": "linux", "architecture": "arm64", "variant": "v8", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created_by": "hand"}],
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": put(json.dumps(config).encode(), CONFIG),
        "layers": [put(gzip.compress(tar), LAYER)],
    }  # fmt: skip
    if change:
        change(manifest)
    listed = put(json.dumps(manifest).encode(), MANIFEST) | {"annotations": {REF: tag}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    return (manifest["layers"] or [None])[0]
