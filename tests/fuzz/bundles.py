"""Bundles, as archives and as wholes."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from edged.errors import EdgedError
from edged.store import archive
from edged.store.bundle import open_bundle
from edged.store.keys import generate_key
from edged.store.signing import Signer
from tests.bundles import make_bundle
from tests.models import double, with_external_data


@contextlib.contextmanager
def _file(data: bytes):
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def run_archive(data: bytes) -> None:
    """What is accepted reads the same in another zip reader."""
    with _file(data) as fd:
        try:
            mine = {e.name: archive.read(fd, e, 1 << 20) for e in archive.read_entries(fd)}
        except EdgedError:
            return
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert mine == {name: other.read(name) for name in other.namelist()}


def run_bundle(data: bytes) -> None:
    """Frame, manifest, names, members: everything that is read before a byte is staged."""
    with (
        _file(data) as fd,
        contextlib.suppress(EdgedError),
        open_bundle(Path(f"/proc/self/fd/{fd}")) as bundle,
    ):
        for member in bundle.manifest.members:
            for _ in bundle.stream(member):
                pass


def seed_bundles() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.edgb"
        key = Signer.from_file(generate_key(Path(folder) / "k")[0])
        external, files = with_external_data()
        sidecars = {name: ("onnx-data", data) for name, data in files.items()}
        return [
            make_bundle(path, double(), key=key).read_bytes(),
            make_bundle(path, double(), golden=False).read_bytes(),
            make_bundle(path, external, key=key, extra=sidecars).read_bytes(),
        ]
