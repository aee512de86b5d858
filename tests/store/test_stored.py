"""A stored release: the bytes it gives are the ones that were signed, or it gives none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edged.errors import (
    BundleError,
    DigestMismatchError,
    IncompatibleError,
    ManifestError,
    SignatureError,
)
from edged.manifest import ArtefactEntry, Golden, Tolerance, canonical_json
from edged.store.bundle import bundle_digest, stage
from edged.store.golden import write_safetensors
from edged.store.stored import StoredRelease, open_release
from edged.store.trust_store import TrustStore
from tests.bundles import GOLDEN, ONNX, make_bundle, make_manifest
from tests.models import classifier, double, scalar, with_external_data


@pytest.fixture
def put(tmp_path: Path, keys):
    def put(model, **more) -> StoredRelease:
        path = make_bundle(tmp_path / "a.edgb", model, key=keys.private, **more)
        digest = bundle_digest(canonical_json(make_manifest(model, **more)[0]))
        directory = tmp_path / "store" / digest
        directory.mkdir(parents=True)
        stage(path, keys.trust, directory)
        return open_release(tmp_path / "store", digest)

    return put


def test_reading(put, keys):
    release = put(double())
    assert release.manifest.name == "gate"
    assert release.artefact("onnx") == release.read_member("model.onnx") == double().data
    assert release.verify(keys.trust) == (keys.signer.key_id,)
    assert release.sidecars(release.manifest.artefacts[0]) == {}
    assert release.is_whole()


def test_sidecars(put):
    model, files = with_external_data()
    extra = {name: ("onnx-data", data) for name, data in files.items()}
    extra["model.bin"] = ("openvino", b"weights")
    release = put(model, extra=extra)
    entry = release.manifest.artefacts[0]
    assert release.sidecars(entry) == files


def test_the_weights_of_an_ir_are_the_bin_beside_it(put):
    extra = {"model.bin": ("openvino", b"weights"), "other.bin": ("openvino", b"others")}
    ir = ArtefactEntry("openvino", "model.xml")
    release = put(double(), extra=extra, artefact=ir, artefact_type="openvino")
    assert release.sidecars(ir) == {"model.bin": b"weights"}
    assert release.sidecars(ArtefactEntry("openvino", "third.xml")) == {}


@pytest.mark.parametrize("model", [classifier(), scalar()], ids=lambda m: m.name)
def test_golden(put, model):
    inputs, outputs = put(model).golden()
    wanted_inputs, wanted_outputs = model.golden()
    for got, wanted in ((inputs, wanted_inputs), (outputs, wanted_outputs)):
        assert set(got) == set(wanted)
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array)


def test_no_golden(put):
    assert put(double(), golden=False).golden() is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": np.ones((2, 4), "f4")}, "in.NAME"),
        ({"in.": np.ones((2, 4), "f4")}, "in.NAME"),
        ({"in.x": np.ones((2, 4), "f4")}, "missing input"),
        ({"in.x": np.ones((2, 5), "f4"), "out.y": np.ones((2, 4), "f4")}, "wants float32"),
        ({"in.x": np.ones((2, 4), "f8"), "out.y": np.ones((2, 4), "f4")}, "wants float32"),
        ({"in.x": np.ones((2, 4), "f4"), "out.z": np.ones((2, 4), "f4")}, "fit the signature"),
    ],
)
def test_golden_that_does_not_fit(put, tensors, message: str):
    data = write_safetensors(tensors)
    release = put(
        double(),
        golden=False,
        extra={GOLDEN: ("safetensors", data)},
    )
    manifest = msgspec.structs.replace(release.manifest, golden=Golden(GOLDEN, 2, {}))
    with pytest.raises(ManifestError, match=message):
        StoredRelease(release.digest, manifest, release.directory).golden()


class TestTwoPrecisions:
    """A second model file with answers of its own to the first rows of the shared inputs."""

    def put(self, put, outputs, file: str = "golden-int8.safetensors") -> StoredRelease:
        second = double(factor=3)
        entry = ArtefactEntry(
            "onnx", "model-int8.onnx", "int8", golden=Golden(file, 3, {"y": Tolerance(atol=0.5)})
        )
        files = {
            "model-int8.onnx": ("onnx", second.data),
            "golden-int8.safetensors": ("safetensors", write_safetensors(outputs)),
        }
        return put(double(), extra=files, artefacts=(ONNX, entry))

    def test_reading(self, put):
        asked, _ = double().golden(4)
        release = self.put(put, {"out.y": asked["x"][:3] * 3})
        first, second = release.manifest.artefacts
        assert release.artefact("onnx") == release.artefact("onnx", "float32") == double().data
        assert release.artefact("onnx", "int8") == double(factor=3).data
        with pytest.raises(IncompatibleError, match="no onnx artefact of float16"):
            release.artefact("onnx", "float16")
        inputs, expected = release.golden(second)
        assert len(inputs["x"]) == len(expected["y"]) == 3
        np.testing.assert_array_equal(expected["y"], inputs["x"] * 3)
        assert len(release.golden(first)[0]["x"]) == len(release.golden()[0]["x"]) == 4

    @pytest.mark.parametrize(
        ("outputs", "message"),
        [
            ({"in.x": np.ones((3, 4), "f4"), "out.y": np.ones((3, 4), "f4")}, "inputs are shared"),
            ({"out.z": np.ones((3, 4), "f4")}, "fit the signature"),
        ],
    )
    def test_answers_that_do_not_fit(self, put, outputs, message: str):
        release = self.put(put, outputs)
        with pytest.raises(ManifestError, match=message):
            release.golden(release.manifest.artefacts[1])

    def test_answers_of_another_type(self, put):
        with pytest.raises(ManifestError, match="must be a member of type safetensors"):
            self.put(put, {"out.y": np.ones((3, 4), "f4")}, "model.onnx")


@pytest.mark.hostile(
    "G17 a bundle exchanged between check and load", "R28 the bytes that were hashed are handed on"
)
class TestTampering:
    """bundle changed between verify and load → verified bytes are the loaded bytes."""

    def test_changed_member(self, put):
        release = put(double())
        path = release.directory / "model.onnx"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert release.is_whole()
        with pytest.raises(DigestMismatchError, match=r"model.onnx.*import the bundle again"):
            release.artefact("onnx")

    @pytest.mark.hostile("R19 containment is proven by opening")
    def test_member_behind_a_link(self, put, tmp_path: Path):
        release = put(double())
        (release.directory / "model.onnx").rename(tmp_path / "same.onnx")
        (release.directory / "model.onnx").symlink_to(tmp_path / "same.onnx")
        assert not release.is_whole()
        with pytest.raises(DigestMismatchError):
            release.artefact("onnx")

    def test_folder_behind_a_link(self, put, tmp_path: Path):
        release = put(double())
        release.directory.rename(tmp_path / "moved")
        release.directory.symlink_to(tmp_path / "moved")
        assert not release.is_whole()
        with pytest.raises(BundleError, match="not in the store"):
            release.artefact("onnx")

    def test_changed_manifest(self, put):
        release = put(double())
        path = release.directory / "manifest.json"
        path.write_bytes(path.read_bytes().replace(b"gate", b"door"))
        with pytest.raises(BundleError, match="manifest was changed"):
            open_release(release.directory.parent, release.digest)

    def test_missing(self, put, tmp_path: Path):
        release = put(double())
        with pytest.raises(BundleError, match="not in the store"):
            open_release(tmp_path / "store", "0" * 64)
        with pytest.raises(BundleError, match="digest"):
            open_release(tmp_path / "store", "../store/" + release.digest)
        (release.directory / "manifest.json").unlink()
        with pytest.raises(BundleError, match="no manifest"):
            open_release(tmp_path / "store", release.digest)


def test_what_the_bundle_has_not(put):
    release = put(double())
    with pytest.raises(IncompatibleError, match="no tensorrt artefact; it has: onnx"):
        release.artefact("tensorrt")
    for name in ("../../../etc/passwd", "manifest.json", "nowhere"):
        with pytest.raises(ManifestError, match="no member"):
            release.read_member(name)


def test_key_that_is_trusted_no_more(put, keys):
    """Removing a right also removes what it granted: stored releases can be asked again."""
    release = put(double())
    with pytest.raises(SignatureError):
        release.verify(TrustStore({}))
    (release.directory / "signatures.json").unlink()
    with pytest.raises(SignatureError, match="nobody"):
        release.verify(keys.trust)
