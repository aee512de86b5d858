"""``build-engine``: a bundle goes in, and comes out with an engine for this machine's GPU.

Decides which of the bundle's ONNX files the engine is built from, and whether its answers to the
golden rows are good enough. What was in the bundle stays as it is; the file it was built from stays
what other devices, and this one without TensorRT, are served by.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from converters.atomic import replace_file
from converters.engines.child import Built, build_apart
from converters.errors import ConversionError, EngineError, ParityError
from converters.pack import member, pack
from converters.parity import compare, round_up
from converters.steps import Progress, Steps
from converters.verify import golden_part, shared_inputs
from edged.engines.job import BuildJob
from edged.engines.sources import buildable
from edged.manifest import ArtefactEntry, Golden, Manifest, Tolerance
from edged.runtimes.engine import BuildOptions, Engine, Fingerprint
from edged.store.bundle import open_bundle, stage_bundle
from edged.store.golden import read_safetensors
from edged.store.signing import Signer
from edged.tensors import Array

TIMING_FILE = "tensorrt.timing"
"""In the user's cache: one file for all builds here; TensorRT drops what does not fit."""


@dataclass(frozen=True)
class Wish:
    """How the user wants it.

    Args:
        precision: which of the bundle's; empty where there is one to build from.
        options: of the build.
        device: which GPU, as CUDA counts.
        memory_mib: most memory of the process; 0 for what the machine has.
        timeout_s: how long it may take.
        timing_cache: the file that keeps what the builder timed; None for the user's cache.
        release: the new bundle's number; 0 for the same.
    """

    precision: str = ""
    options: BuildOptions = field(default_factory=BuildOptions)
    device: int = 0
    memory_mib: int = 0
    timeout_s: int = 3600
    timing_cache: Path | None = None
    release: int = 0


@dataclass(frozen=True)
class Outcome:
    """What was written.

    Args:
        file: the engine's name in the bundle.
        precision: its.
        fingerprint: where it may run, and of what it was made.
        digest: of the new bundle.
        is_signed: whether a key signed it.
        timing_cache: where the builder's timings are kept.
    """

    file: str
    precision: str
    fingerprint: Fingerprint
    digest: str
    is_signed: bool
    timing_cache: Path


def add_engine(
    bundle: Path,
    output: Path,
    wish: Wish,
    key: Path | None = None,
    progress: Progress = lambda _step: None,
) -> Outcome:
    """Build an engine on this machine and write the bundle with it.

    Args:
        bundle: holds the ONNX file; its hashes are checked first.
        output: the bundle to write; replaced only when everything succeeded.
        wish: how.
        key: a private key to sign with. Earlier signatures are of another manifest and are dropped.
        progress: called with each step's name.

    Raises:
        BundleError: the bundle is not whole.
        ConversionError: it has no file to build from, or several and the wish names none.
        NoDeviceError: TensorRT, a driver or a GPU is not here.
        EngineError: no engine came of it, or another one than was asked for.
        ParityError: the engine does not give the golden answers.
    """
    signer = None if key is None else Signer.from_file(key)
    steps = Steps(progress)
    with steps.step("reading the bundle"):
        manifest, members = _read(bundle)
        source = choose_source(manifest, wish.precision)
        promised, inputs, expected = _golden(manifest, members, source)
    timing = wish.timing_cache or _cache_file()
    with steps.step("building the engine"):
        built = build_apart(
            _job(manifest, wish),
            members[source.file],
            inputs,
            _read_timing(timing),
            precision=source.precision,
            timeout_s=wish.timeout_s,
        )
    with steps.step("holding it against the golden rows"):
        parity = hold(built, expected, promised)
    fingerprint = msgspec.structs.replace(built.engine.fingerprint, parity=parity)
    engine = Engine(fingerprint, built.engine.plan)
    with steps.step("packing"):
        name = name_of(source.precision, fingerprint)
        added, files = add(manifest, members, source, name, engine)
        if wish.release:
            added = msgspec.structs.replace(added, release=wish.release)
        data = pack(output, added, files, [] if signer is None else [signer])
    _keep_timing(timing, built.timing_cache)
    digest = hashlib.sha256(data).hexdigest()
    return Outcome(name, source.precision, fingerprint, digest, signer is not None, timing)


def _job(manifest: Manifest, wish: Wish) -> BuildJob:
    return BuildJob(
        model=manifest.name,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        options=wish.options,
        chunk=wish.options.max_batch if manifest.is_row_wise else 0,
        device=wish.device,
        memory_mib=wish.memory_mib,
    )


def choose_source(manifest: Manifest, precision: str) -> ArtefactEntry:
    """The ONNX file that an engine is built from: TensorRT's own, or one that says no other's int8.

    Raises:
        ConversionError: there is none, or more than one and no precision is named.
    """
    types = {entry.name: entry.type for entry in manifest.members}
    found = buildable(manifest)
    have = ", ".join(found) or "none"
    if precision and precision not in found:
        hint = ""
        if precision == "int8" and any(e.precision == "int8" for e in manifest.artefacts):
            hint = (
                ": its int8 file is for CPUs, with zero points that TensorRT does not take; "
                "convert it for a target with TensorRT (--for jetpack6 or jetpack7)"
            )
        raise ConversionError(
            f"the bundle has no {precision} model for TensorRT{hint} (it has: {have})"
        )
    if not found:
        raise ConversionError("the bundle has no ONNX file that TensorRT could take")
    if not precision and len(found) > 1:
        raise ConversionError(
            f"the bundle has {have}: say which one, --precision {next(iter(found))}"
        )
    if "onnx-data" in types.values():
        raise ConversionError(
            "the bundle keeps weights in a second file, which the build does not take: convert it "
            "into one file"
        )
    return found[precision] if precision else next(iter(found.values()))


def hold(built: Built, expected: Mapping[str, Array], promised: Golden) -> dict[str, float]:
    """Hold the engine's answers against the golden ones.

    Returns:
        The largest difference by output, for the fingerprint.

    Raises:
        ParityError: names the output, the row and the difference.
    """
    largest = {}
    for name, array in expected.items():
        tolerance = promised.tolerances.get(name, Tolerance())
        if name not in built.answers:
            raise EngineError(f'the build left no answers of output "{name}"')
        result = compare(name, array, built.answers[name], tolerance)
        if result.rows_beyond:
            raise ParityError(
                f'the engine is wrong: output "{name}": {result.rows_beyond} of {result.rows} '
                f"golden rows are beyond rtol {tolerance.rtol:g}, atol {tolerance.atol:g} (worst "
                f"row {result.worst_row}, largest difference {result.max_abs:.3g}); it was not "
                "packed"
            )
        largest[name] = round_up(result.max_abs)
    return largest


def name_of(precision: str, fingerprint: Fingerprint) -> str:
    """The engine's name in the bundle: the same for the same kind of device, which replaces it."""
    host = msgspec.json.encode(fingerprint.host, order="deterministic")
    device = f"sm{fingerprint.host.compute_capability.replace('.', '')}"
    return f"model-{precision}-{device}-{hashlib.sha256(host).hexdigest()[:12]}.engine"


def add(
    manifest: Manifest,
    members: Mapping[str, bytes],
    source: ArtefactEntry,
    name: str,
    engine: Engine,
) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and the members with the engine, in the place of an earlier one of that name."""
    data = engine.encode()
    entry = ArtefactEntry("tensorrt", name, source.precision, golden=source.golden)
    kept = [one for one in manifest.artefacts if one.file != name]
    rest = [one for one in manifest.members if one.name != name]
    known = manifest.provenance.get("engines")
    engines = dict(known) if isinstance(known, dict) else {}
    engines[name] = {"model": source.file, **msgspec.to_builtins(engine.fingerprint)}
    changed = msgspec.structs.replace(
        manifest,
        artefacts=(*kept, entry),
        members=(*rest, member(name, "tensorrt", data)),
        provenance={**manifest.provenance, "engines": engines},
    )
    return changed, {**members, name: data}


def _read(bundle: Path) -> tuple[Manifest, dict[str, bytes]]:
    """A whole bundle, checked as a device does, but for whose it is."""
    with tempfile.TemporaryDirectory(prefix="edged-engine-") as name, open_bundle(bundle) as opened:
        folder = Path(name)
        stage_bundle(opened, folder)
        members = {m.name: (folder / m.name).read_bytes() for m in opened.manifest.members}
        return opened.manifest, members


def _golden(
    manifest: Manifest, members: Mapping[str, bytes], source: ArtefactEntry
) -> tuple[Golden, dict[str, Array], dict[str, Array]]:
    promised = manifest.golden_of(source)
    if manifest.golden is None or promised is None:
        raise ConversionError(
            "the bundle has no golden samples: there is nothing to hold an engine against"
        )
    tensors = read_safetensors(members[manifest.golden.file])
    inputs = golden_part(tensors, "in.", [entry.name for entry in manifest.inputs])
    answers = read_safetensors(members[promised.file])
    expected = golden_part(answers, "out.", [entry.name for entry in manifest.outputs])
    return promised, shared_inputs(manifest, promised, inputs), expected


def _cache_file() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "edged" / TIMING_FILE


def _read_timing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as exc:
        raise ConversionError(f"--timing-cache {path}: {exc.strerror}") from exc


def _keep_timing(path: Path, data: bytes) -> None:
    """Best done after the bundle is written, and no reason to fail: it only saves time."""
    if not data:
        return
    with contextlib.suppress(OSError, ConversionError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
