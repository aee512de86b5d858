import zipfile

import pytest

from converters.errors import ConversionError
from converters.pack import add_signature, member, pack, write_zip
from edged.manifest import ArtefactEntry, Manifest, TensorEntry
from edged.store.bundle import open_bundle
from edged.store.keys import generate_key
from edged.store.signing import Signer, parse_signatures
from edged.store.trust_store import TrustStore

MEMBERS = {"model.onnx": b"graph", "notes.txt": b"words"}


def manifest_of(members=MEMBERS):
    tensor = TensorEntry("x", "float32", ("batch", 2))
    return Manifest(
        format="edged-bundle-v1",
        name="m",
        release=1,
        version="1",
        inputs=(tensor,),
        outputs=(TensorEntry("y", "float32", ("batch", 2)),),
        artefacts=(ArtefactEntry("onnx", "model.onnx"),),
        members=(
            member("model.onnx", "onnx", members["model.onnx"]),
            member("notes.txt", "text", members["notes.txt"]),
        ),
    )


def test_the_strict_reader_takes_what_is_written(tmp_path):
    private, public = generate_key(tmp_path / "k")
    path = tmp_path / "m.edgb"
    data = pack(path, manifest_of(), MEMBERS, [Signer.from_file(private)])
    with open_bundle(path) as bundle:
        assert bundle.manifest_bytes == data
        assert {m.name: b"".join(bundle.stream(m)) for m in bundle.manifest.members} == MEMBERS
        TrustStore.from_files([public]).verify(data, bundle.signatures)
    names = zipfile.ZipFile(path).namelist()
    assert names == ["manifest.json", "signatures.json", "model.onnx", "notes.txt"]


def test_the_same_members_give_the_same_bytes_and_leave_nothing_behind(tmp_path):
    pack(tmp_path / "a.edgb", manifest_of(), MEMBERS)
    pack(tmp_path / "b.edgb", manifest_of(), MEMBERS)
    assert (tmp_path / "a.edgb").read_bytes() == (tmp_path / "b.edgb").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edgb", "b.edgb"]


def test_other_bytes_than_the_manifest_says_are_refused(tmp_path):
    with pytest.raises(ConversionError, match=r'"model\.onnx" is not what the manifest says'):
        pack(tmp_path / "m.edgb", manifest_of(), {**MEMBERS, "model.onnx": b"grapH"})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "m.edgb"
    target.write_bytes(b"old")
    with pytest.raises(TypeError):
        write_zip(target, b"{}", None, {"model.onnx": None})
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(ConversionError, match="cannot be written"):
        write_zip(tmp_path / "missing" / "m.edgb", b"{}", None, {})


def test_signatures_gather_one_a_key(tmp_path):
    one = Signer.from_file(generate_key(tmp_path / "one")[0])
    two = Signer.from_file(generate_key(tmp_path / "two")[0])
    both = add_signature(add_signature(None, b"m", one), b"m", two)
    assert [key for key, _ in parse_signatures(both)] == sorted([one.key_id, two.key_id])
    assert add_signature(both, b"m", one) == both
