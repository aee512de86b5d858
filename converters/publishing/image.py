"""The image around a bundle: its layer, configuration, manifest and index.

One image index for each bundle, with a manifest for each platform: a bundle runs on any processor,
but container engines refuse images that are stated for another one. Source: the OCI image
specification 1.1 (layer.md, config.md, manifest.md, annotations.md).
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import tarfile
from dataclasses import dataclass
from typing import IO, Any, cast

from converters.errors import ConversionError
from converters.publishing.checked import CheckedBundle
from converters.publishing.layout import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    Document,
    Layout,
    is_list_of_objects,
    to_json,
)

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
FOLDER = "models"
"""Where KServe looks for the files of an ``oci://`` image."""
PLATFORMS = ("amd64", "arm64")
_EPOCH = "1970-01-01T00:00:00Z"
"""The time of everything: the same bundle gives the same image on any day."""
_LEVEL = 6
"""gzip's own default. Weights hardly shrink at any level, the tables of trees do."""


@dataclass(frozen=True)
class Layer:
    """A layer that lies in the layout.

    Args:
        descriptor: of the compressed blob.
        diff_id: digest of the tar archive in it.
    """

    descriptor: Document
    diff_id: str


@dataclass(frozen=True)
class Base:
    """What the bundle's layer is put on, for one platform.

    Args:
        config: the image configuration; names architecture and system.
        layers: descriptors of the layers that lie below.
        platform: as an image index states it.
    """

    config: Document
    layers: tuple[Document, ...]
    platform: Document


def empty_bases() -> tuple[Base, ...]:
    """Nothing below: an image of files alone, for each platform."""
    return tuple(
        Base(
            {"os": "linux", "architecture": name, "created": _EPOCH},
            (),
            {"os": "linux", "architecture": name},
        )
        for name in PLATFORMS
    )


def read_bases(layout: Layout, tag: str | None) -> tuple[Base, ...]:
    """The image of a layout, for each platform it has.

    Raises:
        ConversionError: no OCI image, or one that contradicts itself.
    """
    top = layout.tagged(tag)
    if top.get("mediaType") == INDEX_TYPE:
        listed = layout.document(top).get("manifests")
        found = [one for one in listed if _platform(one).get("os") != "unknown"] if (
            isinstance(listed, list) and is_list_of_objects(listed)
        ) else []  # fmt: skip
    else:
        found = [top]
    bases = tuple(_read_base(layout, one) for one in found)
    if not bases:
        raise ConversionError(f"{layout.folder}: the base is an index without images")
    return bases


def copy_blobs(source: Layout, target: Layout, bases: tuple[Base, ...]) -> None:
    """Bring the layers of a base along, each held against its digest."""
    for descriptor in {
        str(one.get("digest")): one for base in bases for one in base.layers
    }.values():
        with target.new_blob() as blob:
            for chunk in source.stream(descriptor):
                blob.write(chunk)


def add_layer(layout: Layout, bundle: CheckedBundle) -> Layer:
    """Write the layer with ``models/NAME-RELEASE.edgb``: the same bytes every time."""
    with layout.new_blob() as blob:
        with gzip.GzipFile("", "wb", _LEVEL, cast(IO[bytes], blob), mtime=0) as packed:
            through = _Hashed(packed)
            with tarfile.open(
                fileobj=cast(IO[bytes], through), mode="w|", format=tarfile.USTAR_FORMAT
            ) as archive:
                archive.addfile(_entry(FOLDER, tarfile.DIRTYPE, 0o755, 0))
                entry = _entry(
                    f"{FOLDER}/{bundle.file_name}",
                    tarfile.REGTYPE,
                    0o644,
                    bundle.path.stat().st_size,
                )
                with bundle.path.open("rb") as file:
                    archive.addfile(entry, file)
        diff_id = f"sha256:{through.digest.hexdigest()}"
    return Layer(blob.descriptor(LAYER_TYPE), diff_id)


def add_image(
    layout: Layout, bundle: CheckedBundle, layer: Layer, bases: tuple[Base, ...]
) -> Document:
    """Write configuration, manifest and index; returns the index's descriptor."""
    notes = annotate(bundle)
    manifests = []
    for base in bases:
        config = layout.add(to_json(_config(base, layer, notes)), CONFIG_TYPE)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config,
            "layers": [*base.layers, layer.descriptor],
            "annotations": notes,
        }
        described = layout.add(to_json(manifest), MANIFEST_TYPE)
        manifests.append({**described, "platform": base.platform})
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": manifests,
        "annotations": notes,
    }
    return {**layout.add(to_json(index), INDEX_TYPE), "annotations": notes}


def annotate(bundle: CheckedBundle) -> dict[str, str]:
    """What registries show of the bundle, and how to know it again."""
    return {
        "org.opencontainers.image.title": bundle.manifest.name,
        "org.opencontainers.image.version": bundle.manifest.version,
        "edged.bundle.release": str(bundle.manifest.release),
        "edged.bundle.digest": f"sha256:{bundle.digest}",
        "edged.bundle.file": f"{FOLDER}/{bundle.file_name}",
        "edged.bundle.sha256": bundle.sha256,
    }


def _config(base: Base, layer: Layer, labels: dict[str, str]) -> Document:
    config = copy.deepcopy(base.config)
    settings = config.setdefault("config", {})
    settings["Labels"] = {**(settings.get("Labels") or {}), **labels}
    rootfs = config.setdefault("rootfs", {"type": "layers", "diff_ids": []})
    rootfs["diff_ids"] = [*rootfs["diff_ids"], layer.diff_id]
    config["history"] = [
        *(config.get("history") or []),
        {"created": _EPOCH, "created_by": "edged-convert publish"},
    ]
    return config


def _read_base(layout: Layout, descriptor: Document) -> Base:
    manifest = layout.document(descriptor)
    described, layers = manifest.get("config"), manifest.get("layers")
    if (
        manifest.get("schemaVersion") != 2
        or not isinstance(described, dict)
        or described.get("mediaType") != CONFIG_TYPE
        or not isinstance(layers, list)
        or not is_list_of_objects(layers)
    ):
        raise ConversionError(f"{layout.folder}: the base is no OCI container image")
    config = layout.document(described)
    settings, rootfs = config.get("config") or {}, config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if (
        not isinstance(settings, dict)
        or not isinstance(diff_ids, list)
        or len(diff_ids) != len(layers)
    ):
        raise ConversionError(
            f"{layout.folder}: the base's configuration and manifest state different layers"
        )
    platform = {
        key: str(config[key]) for key in ("os", "architecture", "variant") if config.get(key)
    }
    return Base({**config, "config": settings}, tuple(layers), _platform(descriptor) or platform)


def _platform(descriptor: Document) -> Document:
    platform = descriptor.get("platform")
    return dict(platform) if isinstance(platform, dict) else {}


def _entry(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry  # owner root and time 0 are what TarInfo starts with


class _Hashed:
    """A file that also hashes what is written to it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return int(self._file.write(data))
