"""``edged-convert containerize``: a folder from which podman or docker builds a serving container.

Builds and pulls nothing. The folder appears as a whole or not at all, and holds everything but the
base image and the packages that the lock names.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from converters.errors import ConversionError
from converters.publishing import texts
from converters.publishing.checked import CheckedBundle, checked
from converters.publishing.lock import check_runtime, lock_versions
from converters.publishing.wheel import WHEEL_NAME, make_wheel
from converters.targets.table import DEFAULT_TARGET, TARGETS, find_target
from edged.manifest import Manifest
from edged.specs import ImageInput
from edged.store.trust_store import TrustStore

ARM_ONLY = ("jetpack6", "jetpack7")
_KEY_CHARACTERS = 16
"""As much of a key's id as the daemon shows."""


def containerize(
    bundle: Path, folder: Path, keys: Sequence[Path], threshold: int, target: str | None
) -> list[str]:
    """Write the folder.

    Args:
        bundle: verified before anything is written.
        folder: to make; may be there if it is empty.
        keys: the public keys that the container shall trust.
        threshold: how many of them must have signed.
        target: the kind of device; None for the one that the bundle was made for.

    Returns:
        What was checked and written, a line each.

    Raises:
        BundleError: the bundle is not whole, or not signed by enough of the keys.
        ConversionError: no key, a folder with files in it, or packages that do not fit.
    """
    if not keys:
        raise ConversionError(
            "name the public keys that the container shall trust (--key PUB): it takes no bundle "
            "that none of them signed"
        )
    trust = TrustStore.from_files(keys, threshold)
    with checked(bundle, keys, threshold) as source:
        device = find_target(target or _made_for(source.manifest))
        extras = ["cpu", *(["images"] if takes_images(source.manifest) else [])]
        versions = lock_versions(extras)
        check_runtime(versions, device.name, device.onnxruntime)
        public = {f"{_by_id(path)}.pub": path.read_bytes() for path in keys}
        names = texts.Names(
            model=source.manifest.name,
            release=source.manifest.release,
            bundle=source.file_name,
            wheel=WHEEL_NAME,
            keys=tuple(sorted(public)),
            threshold=trust.threshold,
            python=f"{sys.version_info[0]}.{sys.version_info[1]}",
            platform="linux/arm64" if device.name in ARM_ONLY else None,
            target=device.title,
            codec="image" if takes_images(source.manifest) else "json",
        )
        files = {
            "Containerfile": texts.containerfile(names).encode(),
            "README.md": texts.readme(names).encode(),
            "requirements.lock": texts.requirements(versions, names).encode(),
            WHEEL_NAME: make_wheel(extras),
            "etc/edged.yaml": texts.configuration(names).encode(),
            **{f"etc/keys/{name}": data for name, data in public.items()},
        }
        _write(folder, files, source)
        return [*source.said, f"written: {folder}, for {device.title}; see its README.md"]


def takes_images(manifest: Manifest) -> bool:
    """Whether people may send pictures, which needs Pillow."""
    return any(isinstance(work, ImageInput) for work in manifest.input_processing.values())


def _made_for(manifest: Manifest) -> str:
    """The target that the bundle states; what is free in form may say anything."""
    stated = manifest.provenance.get("target")
    name = stated.get("name") if isinstance(stated, dict) else None
    return name if isinstance(name, str) and name in TARGETS else DEFAULT_TARGET


def _by_id(public_key: Path) -> str:
    (name,) = TrustStore.from_files([public_key]).keys
    return name[:_KEY_CHARACTERS]


def _write(folder: Path, files: dict[str, bytes], source: CheckedBundle) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConversionError(f"{folder}: exists already; name a new folder")
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as exc:
        raise ConversionError(f"{folder}: cannot be made: {exc.strerror}") from exc
    try:
        for name, data in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        place = temporary / "etc/bundles" / source.file_name
        place.parent.mkdir()
        shutil.copyfile(source.path, place)
        # Whatever the umask: the daemon's user reads them, and it refuses files that all may write.
        for path in (temporary, *temporary.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        temporary.rename(folder)
    except BaseException as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(exc, OSError):
            raise ConversionError(f"{folder}: cannot be written: {exc.strerror}") from exc
        raise
