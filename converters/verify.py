"""Verifying and signing finished bundles, with the very code that a device uses.

Decides nothing of its own: the store's reader checks form, signatures and hashes; the golden
samples are run and compared as in the parity gate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from converters.errors import ConversionError
from converters.pack import add_signature, write_zip
from converters.parity import compare
from edged.errors import GoldenMismatchError, IncompatibleError, SignatureError
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.store.bundle import bundle_digest, open_bundle, read_manifest, stage
from edged.store.golden import read_safetensors
from edged.store.signing import Signer
from edged.store.trust_store import TrustStore
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
    onnx = {member.name for member in manifest.members if member.type == "onnx"}
    entries = [entry for entry in manifest.artefacts if entry.file in onnx]
    if manifest.golden is None or not entries:
        raise IncompatibleError("the bundle has no golden samples, or no ONNX file to run them on")
    tensors = read_safetensors((folder / manifest.golden.file).read_bytes())
    inputs = golden_part(tensors, "in.", [entry.name for entry in manifest.inputs])
    lines = []
    for entry in entries:
        promised = manifest.golden_of(entry) or manifest.golden
        answers = read_safetensors((folder / promised.file).read_bytes())
        expected = golden_part(answers, "out.", [output.name for output in manifest.outputs])
        asked = shared_inputs(manifest, promised, inputs)
        what = f"{name_of(entry)} " if len(entries) > 1 else ""
        lines += _hold((folder / entry.file).read_bytes(), asked, expected, promised, what)
    return lines


def name_of(entry: ArtefactEntry) -> str:
    """For people: the precision, and for whom where it is not for ONNX Runtime."""
    return entry.precision if entry.runtime == "onnx" else f"{entry.precision} {entry.runtime}"


def shared_inputs(
    manifest: Manifest, promised: Golden, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The golden inputs that one artefact's answers are for: the first so many rows."""
    if not manifest.is_row_wise:
        return dict(inputs)
    return {name: array[: promised.rows] for name, array in inputs.items()}


def _hold(
    model: bytes,
    inputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    promised: Golden,
    what: str,
) -> list[str]:
    got = run_member(model, inputs, list(expected), what)
    lines = []
    for name, array in expected.items():
        tolerance = promised.tolerances.get(name, Tolerance())
        result = compare(name, array, got[name], tolerance)
        if result.rows_beyond:
            raise GoldenMismatchError(
                f'{what}output "{name}": {result.rows_beyond} of {result.rows} golden rows are '
                f"beyond rtol {tolerance.rtol:g}, atol {tolerance.atol:g} (worst row "
                f"{result.worst_row}, largest difference {result.max_abs:.3g})"
            )
        lines.append(
            f'golden {what}"{name}": ok, {result.rows} rows, largest difference '
            f"{result.max_abs:.2g}"
        )
    return lines


def run_member(
    model: bytes, inputs: Mapping[str, Array], outputs: Sequence[str], what: str
) -> dict[str, Array]:
    """What a bundle's model file answers.

    Args:
        model: the file's bytes.
        inputs: as the manifest names them.
        outputs: those that the manifest promises.
        what: which of the files it is, for the message.

    Raises:
        IncompatibleError: it does not run, or has other outputs than the bundle promises.
    """
    from converters.session import open_session  # noqa: PLC0415  (only --run needs onnxruntime)

    try:
        got = open_session(model)(inputs)
    except ConversionError as exc:
        raise IncompatibleError(f"the bundle's {what}model is not the manifest's: {exc}") from exc
    if missing := [name for name in outputs if name not in got]:
        raise IncompatibleError(
            f'the bundle\'s {what}model has no output "{missing[0]}", which the manifest promises; '
            f"it has {', '.join(got)[:200]}"
        )
    return got


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
