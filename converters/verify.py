"""Verifying and signing finished bundles, with the very code that a device uses.

Decides nothing of its own: the store's reader checks form, signatures and hashes; the golden
samples are run and compared as in the parity gate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters.pack import add_signature, write_zip
from converters.parity import compare
from edged.errors import GoldenMismatchError, IncompatibleError, SignatureError
from edged.manifest import Manifest, Tolerance
from edged.store.bundle import bundle_digest, open_bundle, read_manifest, stage
from edged.store.golden import read_safetensors
from edged.store.signing import Signer, TrustStore
from edged.tensors import Array


def sign_bundle(path: Path, key: Path) -> str:
    """Add a signature to a bundle whose members were checked first.

    Returns:
        The id of the key.

    Raises:
        BundleError: not a whole bundle; it is left as it was.
        SignatureError: the key cannot be used.
    """
    signer = Signer.from_file(key)
    with open_bundle(path) as bundle:
        members = {m.name: b"".join(bundle.stream(m)) for m in bundle.manifest.members}
        signatures = add_signature(bundle.signatures, bundle.manifest_bytes, signer)
        write_zip(path, bundle.manifest_bytes, signatures, members)
    return signer.key_id


def verify_bundle(path: Path, keys: Sequence[Path], *, run: bool, threshold: int = 1) -> list[str]:
    """Check a bundle as a device would.

    Args:
        path: the bundle.
        keys: trusted public keys; without any, signatures are not asked for.
        run: whether to run the golden samples on ONNX Runtime.
        threshold: how many different ones of the keys must have signed, as ``trust.threshold``.

    Returns:
        What was checked, a line each.

    Raises:
        BundleError: what is wrong with it (SignatureError, DigestMismatchError, ManifestError,
            GoldenMismatchError).
    """
    if threshold > 1 and not keys:
        raise SignatureError(f"{threshold} signatures are required but no key is named (--key)")
    trust = TrustStore.from_files(keys, threshold, required=bool(keys))
    data, manifest, signatures = read_manifest(path)
    signers = trust.verify(data, signatures)
    lines = [f"manifest: ok, {manifest.name} release {manifest.release}, {bundle_digest(data)}"]
    if keys:
        by = ", ".join(key[:16] for key in signers)
        lines.append(f"signature: ok, by {by} ({threshold} required)")
    elif signatures is None:
        lines.append("signature: none, the bundle is unsigned")
    else:
        lines.append("signature: not checked (name a public key with --key)")
    with tempfile.TemporaryDirectory(prefix="edged-verify-") as name:
        stage(path, trust, Path(name))
        lines.append(f"members: ok, {len(manifest.members)} with their sizes and hashes")
        if run:
            lines += _run_golden(manifest, Path(name))
    return lines


def _run_golden(manifest: Manifest, folder: Path) -> list[str]:
    from converters.session import open_session  # noqa: PLC0415  (only --run needs onnxruntime)

    model = next((a.file for a in manifest.artefacts if a.runtime == "onnx"), None)
    if manifest.golden is None or model is None:
        raise IncompatibleError("the bundle has no golden samples, or no ONNX file to run them on")
    tensors = read_safetensors((folder / manifest.golden.file).read_bytes())
    inputs = golden_part(tensors, "in.", [entry.name for entry in manifest.inputs])
    expected = golden_part(tensors, "out.", [entry.name for entry in manifest.outputs])
    got = open_session((folder / model).read_bytes())(inputs)
    lines = []
    for name, array in expected.items():
        tolerance = manifest.golden.tolerances.get(name, Tolerance())
        result = compare(name, array, got[name], tolerance)
        if result.rows_beyond:
            raise GoldenMismatchError(
                f'output "{name}": {result.rows_beyond} of {result.rows} golden rows are beyond '
                f"rtol {tolerance.rtol:g}, atol {tolerance.atol:g} (worst row {result.worst_row}, "
                f"largest difference {result.max_abs:.3g})"
            )
        lines.append(
            f'golden "{name}": ok, {result.rows} rows, largest difference {result.max_abs:.2g}'
        )
    return lines


def golden_part(
    tensors: Mapping[str, Array], prefix: str, names: Sequence[str]
) -> dict[str, Array]:
    """The golden tensors of one side, by the plain name.

    Raises:
        GoldenMismatchError: one of the signature's is not there.
    """
    missing = [name for name in names if prefix + name not in tensors]
    if missing:
        raise GoldenMismatchError(f"the golden samples lack {', '.join(missing)}")
    return {name: tensors[prefix + name] for name in names}
