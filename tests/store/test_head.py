"""The first bytes of a bundle, however few are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.store.bundle import read_manifest
from edged.store.head import read_head
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    generate_key(tmp_path / "site")
    return make_bundle(tmp_path / "m.edgb", double(), name="m", key=tmp_path / "site.key")


@pytest.mark.parametrize("is_signed", [True, False])
def test_it_is_seen_as_soon_as_it_is_there(tmp_path: Path, bundle: Path, is_signed: bool):
    if not is_signed:
        bundle.unlink()
        make_bundle(bundle, double(), name="m")
    data, whole = bundle.read_bytes(), bundle.stat().st_size
    growing = tmp_path / "growing"
    seen = None
    with growing.open("wb") as file:
        for there in range(0, whole + 1, 7):
            file.write(data[file.tell() : there])
            file.flush()
            fd = os.open(growing, os.O_RDONLY)
            head = read_head(fd, there, whole)
            os.close(fd)
            if seen is None and head is not None:
                seen = there
                assert tuple(head) == read_manifest(bundle)
            assert (head is None) == (seen is None)
    assert seen is not None
    assert seen < data.index(b"model.onnx", data.index(b"PK\x03\x04", 100)) + 200


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\x7fELF" + data[4:],
        lambda data: data.replace(b"manifest.json", b"manifest.jsom"),
        lambda data: data[:18] + b"\xff\xff\xff\x7f" * 2 + data[26:],
        lambda data: data[:18] + b"\0\0\x20\0" * 2 + data[26:],
        lambda data: data.replace(b'{"artefacts"', b'{"artefakts"'),
        lambda data: b"\0" * len(data),
    ],
)
def test_what_begins_as_no_bundle(tmp_path: Path, bundle: Path, change):
    data = change(bundle.read_bytes())
    (tmp_path / "x").write_bytes(data)
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    try:
        head = read_head(fd, len(data), 64 << 20)
    except EdgedError:
        return
    finally:
        os.close(fd)
    pytest.fail(f"taken, or more is waited for: {head}")
