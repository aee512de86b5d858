"""Bundles: what is accepted is exactly what the manifest says; all else is refused, by name."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.errors import (
    BundleError,
    DigestMismatchError,
    EdgedError,
    IncompatibleError,
    ManifestError,
    SignatureError,
)
from edged.manifest import ArtefactEntry, Manifest, Member, canonical_json
from edged.store import bundle as bundles
from edged.store.bundle import bundle_digest, open_bundle, read_file, read_manifest, stage
from edged.store.signing import Signer, sign_manifest
from tests.bundles import make_bundle, make_manifest, write_archive, write_bundle
from tests.fakes import manifests as fakes
from tests.models import double, with_external_data

NAMES = [
    "../x.onnx",
    "/etc/x.onnx",
    "a/../../x.onnx",
    "a\\x.onnx",
    "a\0.onnx",
    "x" * 300 + ".onnx",
    "Model.onnx",
    ".onnx",
    "model.onnx\n",
    "",
]


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.mkdir()
    return path


def build(path: Path, keys, manifest: Manifest, files: dict[str, bytes]) -> Path:
    return write_bundle(path, canonical_json(manifest), files, keys.signer)


class TestGood:
    def test_read_manifest(self, tmp_path: Path, keys):
        path = make_bundle(tmp_path / "a.edgb", double(), key=keys.private)
        data, manifest, signatures = read_manifest(path)
        assert manifest.name == "gate"
        assert canonical_json(manifest) == data
        assert signatures == sign_manifest(data, [keys.signer])
        assert len(bundle_digest(data)) == 64
        assert read_manifest(make_bundle(path, double()))[2] is None

    def test_stage(self, tmp_path: Path, staging: Path, keys):
        manifest, files = make_manifest(double(), extra={"notes.txt": ("text", b"hello")})
        stage(build(tmp_path / "a.edgb", keys, manifest, files), keys.trust, staging)
        assert {path.name for path in staging.iterdir()} == {
            *files,
            "manifest.json",
            "signatures.json",
        }
        for name, data in files.items():
            assert (staging / name).read_bytes() == data
            assert (staging / name).stat().st_mode & 0o777 == 0o600

    def test_external_data_in_a_member(self, tmp_path: Path, staging: Path, keys):
        model, files = with_external_data()
        extra = {name: ("onnx-data", data) for name, data in files.items()}
        stage(
            make_bundle(tmp_path / "a", model, key=keys.private, extra=extra), keys.trust, staging
        )

    def test_the_same_input_gives_the_same_bytes(self, tmp_path: Path, keys):
        one = make_bundle(tmp_path / "a", double(), key=keys.private)
        two = make_bundle(tmp_path / "b", double(), key=keys.private)
        assert one.read_bytes() == two.read_bytes()


class TestSignature:
    @pytest.mark.hostile("G1 signed by an unknown key")
    def test_signed_by_unknown_key_touches_nothing(self, tmp_path: Path, staging: Path, keys):
        """signed by unknown key → refused, only staging touched."""
        other = Signer(Ed25519PrivateKey.generate())
        path = make_bundle(tmp_path / "a", double(), key=other)
        with pytest.raises(SignatureError, match="0 of 1"):
            stage(path, keys.trust, staging)
        assert not list(staging.iterdir())

    def test_unsigned(self, tmp_path: Path, staging: Path, keys):
        with pytest.raises(SignatureError, match="nobody"):
            stage(make_bundle(tmp_path / "a", double()), keys.trust, staging)

    def test_signature_of_another_manifest(self, tmp_path: Path, staging: Path, keys):
        manifest, files = make_manifest(double(), release=2)
        other = canonical_json(make_manifest(double(), release=1)[0])
        members = [
            ("manifest.json", canonical_json(manifest)),
            ("signatures.json", sign_manifest(other, [keys.signer])),
            *files.items(),
        ]
        with pytest.raises(SignatureError, match="changed after"):
            stage(write_archive(tmp_path / "a", members), keys.trust, staging)


class TestMembers:
    @pytest.mark.hostile("G2 a file in the archive only or in the manifest only")
    def test_file_in_archive_but_not_in_manifest(self, tmp_path: Path, keys):
        manifest, files = make_manifest(double())
        path = build(tmp_path / "a", keys, manifest, files | {"more.txt": b"x"})
        with pytest.raises(BundleError, match=r'"more.txt" is in the archive but not in the man'):
            read_manifest(path)

    @pytest.mark.hostile("G2 a file in the archive only or in the manifest only")
    def test_file_in_manifest_but_not_in_archive(self, tmp_path: Path, keys):
        manifest, files = make_manifest(double())
        files.pop("golden.safetensors")
        with pytest.raises(BundleError, match="in the manifest but not in the archive"):
            read_manifest(build(tmp_path / "a", keys, manifest, files))

    def test_other_order(self, tmp_path: Path, keys):
        manifest, files = make_manifest(double())
        with pytest.raises(BundleError, match="order"):
            read_manifest(
                build(tmp_path / "a", keys, manifest, dict(reversed(list(files.items()))))
            )

    def test_manifest_not_first(self, tmp_path: Path):
        manifest, files = make_manifest(double())
        members = [*files.items(), ("manifest.json", canonical_json(manifest))]
        with pytest.raises(BundleError, match="first member"):
            read_manifest(write_archive(tmp_path / "a", members))

    @pytest.mark.hostile("G5 97 kB that would become 100 MB")
    def test_other_size(self, tmp_path: Path, keys):
        """Refused by declared size."""
        manifest, files = make_manifest(double())
        files["model.onnx"] += b"x"
        with pytest.raises(DigestMismatchError, match="the manifest states"):
            read_manifest(build(tmp_path / "a", keys, manifest, files))

    def test_flipped_bit(self, tmp_path: Path, staging: Path, keys):
        """Same size, other bytes, right CRC: the hash finds it while it streams."""
        manifest, files = make_manifest(double())
        data = bytearray(files["model.onnx"])
        data[-1] ^= 1
        path = build(tmp_path / "a", keys, manifest, files | {"model.onnx": bytes(data)})
        with pytest.raises(DigestMismatchError, match="sha256"):
            stage(path, keys.trust, staging)

    @pytest.mark.parametrize("name", NAMES, ids=repr)
    @pytest.mark.hostile(
        "G3 a name with .., a slash, a backslash, a NUL, 300 characters or another case"
    )
    def test_hostile_name_in_the_manifest(self, tmp_path: Path, keys, name: str):
        """names ../x, absolute, a/../../x, backslash, NUL, 300 characters, case → refused."""
        manifest, files = make_manifest(double())
        document = msgspec.to_builtins(manifest)
        document["members"][0]["name"] = document["artefacts"][0]["file"] = name
        data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        path = write_bundle(tmp_path / "a", data, files, keys.signer)
        with pytest.raises(ManifestError):
            read_manifest(path)

    @pytest.mark.parametrize("name", NAMES[:-1], ids=repr)
    @pytest.mark.hostile(
        "G3 a name with .., a slash, a backslash, a NUL, 300 characters or another case"
    )
    def test_hostile_name_in_the_archive(self, tmp_path: Path, keys, name: str):
        manifest, files = make_manifest(double())
        files = {name if key == "model.onnx" else key: data for key, data in files.items()}
        with pytest.raises(BundleError):
            read_manifest(build(tmp_path / "a", keys, manifest, files))

    @pytest.mark.hostile(
        "G3 a name with .., a slash, a backslash, a NUL, 300 characters or another case"
    )
    def test_names_differing_only_in_case(self, tmp_path: Path, keys):
        manifest, files = make_manifest(double())
        with pytest.raises(BundleError, match="twice"):
            read_manifest(build(tmp_path / "a", keys, manifest, files | {"MODEL.onnx": b"x"}))

    @pytest.mark.parametrize("name", ["manifest.json", "signatures.json"])
    def test_member_that_would_be_the_manifest(self, name: str):
        manifest, _ = make_manifest(double(), extra={name: ("json", b"{}")})
        with pytest.raises(ManifestError, match="not a valid name"):
            bundles.check_names(manifest)

    @pytest.mark.parametrize("model", ["gate\n", "gate/x"])
    @pytest.mark.hostile("R11 a model name is a key and never a path")
    def test_hostile_model_name(self, model: str):
        with pytest.raises(ManifestError, match="model name"):
            bundles.check_names(make_manifest(double(), name=model)[0])


class TestTypes:
    @pytest.mark.parametrize("kind", ["pickle", "joblib", "so", "python", ""])
    @pytest.mark.hostile("G16 a pickle, joblib, .so or .py inside a bundle")
    def test_refused_by_type_list(self, tmp_path: Path, keys, kind: str):
        """pickle, joblib, .so or .py inside a bundle → refused by type list."""
        manifest, files = make_manifest(double(), extra={"a.bin": (kind, b"x")})
        with pytest.raises(ManifestError, match=r"members\[2\].type"):
            read_manifest(build(tmp_path / "a", keys, manifest, files))

    @pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "liba.so", "a.py", "a.onnx.sh", "a"])
    @pytest.mark.parametrize("kind", ["text", "json", "onnx", "onnx-data"])
    @pytest.mark.hostile("G16 a pickle, joblib, .so or .py inside a bundle")
    def test_disguised_as_another_type(self, tmp_path: Path, keys, name: str, kind: str):
        manifest, files = make_manifest(double(), extra={name: (kind, b"x")})
        with pytest.raises(ManifestError, match="not a name for type"):
            read_manifest(build(tmp_path / "a", keys, manifest, files))

    def test_artefact_of_another_type(self, tmp_path: Path, keys):
        manifest, files = make_manifest(double())
        members = tuple(
            Member("model.onnx", "onnx", m.size, m.sha256) if m.name == "model.onnx" else m
            for m in manifest.members
        )
        golden = msgspec.structs.replace(manifest.golden, file="model.onnx")
        wrong = msgspec.structs.replace(manifest, members=members, golden=golden)
        with pytest.raises(ManifestError, match="must be a member of type safetensors"):
            read_manifest(build(tmp_path / "a", keys, wrong, files))

    @pytest.mark.parametrize("cut", [1, 40])
    @pytest.mark.hostile("G12 an empty or truncated model")
    def test_truncated_model(self, tmp_path: Path, staging: Path, keys, cut: int):
        """0-byte or truncated model → refused (a member of 0 bytes by the manifest's own rules)."""
        broken = replace(double(), data=double().data[:cut])
        with pytest.raises(ManifestError, match=r'member "model.onnx"'):
            stage(make_bundle(tmp_path / "a", broken, key=keys.private), keys.trust, staging)


class TestFile:
    @pytest.mark.parametrize("name", ["nowhere.edgb", "a\0b"])
    def test_missing(self, tmp_path: Path, name: str):
        with pytest.raises(BundleError, match="cannot open"), open_bundle(tmp_path / name):
            pass

    def test_fifo_does_not_hang(self, tmp_path: Path):
        os.mkfifo(tmp_path / "a.edgb")
        with pytest.raises(BundleError, match="regular file"):
            read_manifest(tmp_path / "a.edgb")

    def test_directory(self, tmp_path: Path):
        with pytest.raises(BundleError, match="regular file"):
            read_manifest(tmp_path)

    @pytest.mark.parametrize("name", ["manifest.json", "signatures.json"])
    @pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
    def test_caps_of_the_small_members(self, tmp_path: Path, name: str):
        manifest, files = make_manifest(double())
        members = {"manifest.json": canonical_json(manifest), "signatures.json": b"", **files}
        members[name] = b" " * (2 << 20)
        with pytest.raises(BundleError, match=f'"{name}" has 2097152 bytes; the limit'):
            read_manifest(write_archive(tmp_path / "a", members.items()))

    def test_no_room(self, tmp_path: Path, staging: Path, keys, monkeypatch):
        """The sum and a fifth more must be free; asked before anything is written."""
        path = make_bundle(tmp_path / "a", double(), key=keys.private)
        monkeypatch.setattr(bundles, "_RESERVE", 1e18)
        with pytest.raises(IncompatibleError, match="make room"):
            stage(path, keys.trust, staging)
        assert not list(staging.iterdir())
        monkeypatch.setattr(bundles, "_RESERVE", 1.2)
        full = SimpleNamespace(f_bavail=0, f_frsize=4096)
        monkeypatch.setattr(bundles.os, "statvfs", lambda _: full)
        with pytest.raises(IncompatibleError, match=r"has 0 B free; this bundle needs \d+ B "):
            stage(path, keys.trust, staging)

    def test_staging_that_is_not_empty_is_not_overwritten(self, tmp_path, staging, keys):
        (staging / "model.onnx").symlink_to(tmp_path / "target")
        path = make_bundle(tmp_path / "a", double(), key=keys.private)
        with pytest.raises(BundleError, match="cannot write"):
            stage(path, keys.trust, staging)
        assert not (tmp_path / "target").exists()

    @pytest.mark.hostile(
        "G17 a bundle exchanged between check and load",
        "R28 the bytes that were hashed are handed on",
    )
    def test_bundle_changed_between_verify_and_load(self, tmp_path, staging, keys):
        """verified bytes are the loaded bytes: the file is exchanged after it was opened."""
        path = make_bundle(tmp_path / "a", double(), key=keys.private)
        with open_bundle(path) as bundle:
            make_bundle(tmp_path / "b", double(factor=9)).rename(path)
            bundles.stage_bundle(bundle, staging)
        assert (staging / "model.onnx").read_bytes() == double().data


class TestReadFile:
    @pytest.fixture
    def member(self, staging: Path) -> Member:
        manifest, files = make_manifest(double())
        (staging / "model.onnx").write_bytes(files["model.onnx"])
        return manifest.members[0]

    def read(self, staging: Path, member: Member) -> bytes:
        fd = os.open(staging, os.O_RDONLY)
        try:
            return read_file(fd, member)
        finally:
            os.close(fd)

    def test_good(self, staging: Path, member: Member):
        assert self.read(staging, member) == double().data

    @pytest.mark.parametrize("change", ["flip", "longer", "shorter", "gone", "link", "folder"])
    @pytest.mark.hostile("R19 containment is proven by opening")
    def test_anything_else(self, staging: Path, tmp_path: Path, member: Member, change: str):
        path = staging / "model.onnx"
        data = path.read_bytes()
        path.unlink()
        if change == "flip":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        elif change in ("longer", "shorter"):
            path.write_bytes(data + b"x" if change == "longer" else data[:-1])
        elif change == "link":
            (tmp_path / "same").write_bytes(data)
            path.symlink_to(tmp_path / "same")
        elif change == "folder":
            path.mkdir()
        with pytest.raises(DigestMismatchError, match="import the bundle again"):
            self.read(staging, member)


_MANIFEST, _FILES = make_manifest(double(), golden=False)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_manifest_raises_our_errors_only(tmp_path_factory, data):
    content = bytearray(canonical_json(_MANIFEST))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"fuzz-{os.getpid()}.edgb"
    write_bundle(path, bytes(content), _FILES)
    try:
        read_manifest(path)
    except EdgedError:
        return


def test_every_type_has_an_ending_and_every_kind_a_type():
    types = get_args(get_type_hints(Member)["type"])
    assert set(bundles._ENDINGS) == set(types)
    kinds = set(get_args(get_type_hints(ArtefactEntry)["runtime"])) - {"pipeline"}
    assert set(bundles._ARTEFACT_TYPES) == kinds
    assert {kind for kinds in bundles._ARTEFACT_TYPES.values() for kind in kinds} <= set(types)


def test_only_tensorrt_has_two_forms_an_engine_and_the_model_to_build_it_from():
    made = fakes.make_manifest([("x", "float32", ("batch", 4))])
    for runtime, is_taken in (("onnx", True), ("tensorrt", True), ("openvino", False)):
        entry = ArtefactEntry(runtime, "m.onnx", "int8")
        changed = msgspec.structs.replace(made, artefacts=(entry,))
        if is_taken:
            bundles.check_names(changed)
        else:
            with pytest.raises(
                ManifestError, match="must be a member of type openvino; it is onnx"
            ):
                bundles.check_names(changed)
