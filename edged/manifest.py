"""The manifest of a bundle: what it is, what it takes and gives, and what its members must hash to.

Words only: reading files, hashes and signatures is ``store/``; writing them is ``converters/``.
The canonical form (sorted keys, ASCII, no spaces, no NaN) is what is signed.
Source: the bundle format in docs/bundles.md.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from edged import decoding
from edged.errors import ManifestError
from edged.specs import (
    MODEL_NAME,
    UNKNOWN_WORD,
    FeaturesInput,
    InputProcessing,
    OutputProcessing,
    TextInput,
)
from edged.tensors import ALL_DTYPES, BATCH, TensorSpec

FORMAT = "edged-bundle-v1"
MANIFEST_CAP_BYTES = 1 << 20
"""A manifest is a page of text; labels of a large vocabulary still fit in 1 MiB."""
MEMBER_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}\Z"
"""Lower case only, so that no two names differ in case alone; no slash, so no path can leave."""
WORD_DTYPES = ("float32", "float64", "int32", "int64")
"""They hold UNKNOWN_WORD and the number of every word exactly."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Release = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
MemberName = Annotated[str, Meta(pattern=MEMBER_NAME)]
Label = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}\Z")]
LabelValue = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Targets = Annotated[
    dict[Label, Annotated[tuple[LabelValue, ...], Meta(min_length=1, max_length=64)]],
    Meta(min_length=1, max_length=16),
]
"""By a word of the device, what it may be."""
AxisEntry = (
    Annotated[int, Meta(ge=0, le=2**31)] | Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]{0,31}\Z")]
)


class TensorEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output as the manifest writes it."""

    name: Name
    dtype: str
    shape: Annotated[tuple[AxisEntry, ...], Meta(max_length=8)]

    def spec(self) -> TensorSpec:
        """The same as a signature."""
        return TensorSpec(self.name, self.dtype, self.shape)


class Member(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the bundle. ``type`` comes from a closed list: nothing else is ever stored."""

    name: MemberName
    type: Literal["onnx", "onnx-data", "tensorrt", "openvino", "safetensors", "json", "text"]
    size: Annotated[int, Meta(ge=1, le=64 << 30)]
    sha256: Sha256


class Tolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """Largest accepted |got - expected|: ``atol + rtol * |expected|``."""

    rtol: Annotated[float, Meta(ge=0, le=1)] = 1e-4
    atol: Annotated[float, Meta(ge=0)] = 1e-5


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """Samples with their expected outputs, proven on the framework itself.

    The file is in the safetensors format with tensors ``in.NAME`` and ``out.NAME``.
    """

    file: MemberName
    rows: Annotated[int, Meta(ge=1, le=4096)]
    tolerances: dict[str, Tolerance]


Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]


class Statistics(Struct, frozen=True, forbid_unknown_fields=True):
    """How the numbers of a tensor lie in the samples: what live ones are held against.

    ``shares`` of them lie below the first of ``edges``, between each two, and from the last one on.
    """

    count: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    mean: Finite
    deviation: Annotated[float, Meta(ge=0, le=1e300)]
    edges: Annotated[tuple[Finite, ...], Meta(max_length=32)]
    shares: Annotated[tuple[Annotated[float, Meta(ge=0, le=1)], ...], Meta(max_length=33)]


class ArtefactEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """One model file and the runtime it is for.

    ``golden`` is written only where this file's answers are not those of the bundle's samples: it
    names a file with ``out.NAME`` alone, for the first ``rows`` rows of the samples' inputs. Where
    it is not given it is not written: bundles from before it keep their canonical form. A runtime
    ``pipeline`` stands in what a daemon says of its own pipelines, never in a bundle. ``files`` are
    those that lie beside ``file`` in a folder of ``genai``, whose file is its configuration.
    """

    runtime: Literal["onnx", "tensorrt", "openvino", "genai", "pipeline"]
    file: MemberName
    precision: Literal["float32", "float16", "int8", "mixed"] = "float32"
    opset: int | None = None
    ir: int | None = None
    golden: Golden | UnsetType = UNSET
    files: Annotated[tuple[MemberName, ...], Meta(min_length=1, max_length=64)] | UnsetType = UNSET


class Requires(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device must have."""

    edged: Annotated[str, Meta(pattern=r"^[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?\Z")] = "0.1"


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole manifest. See docs/bundles.md for each field."""

    format: Literal["edged-bundle-v1"]
    name: Annotated[str, Meta(pattern=MODEL_NAME)]
    release: Release
    version: Annotated[str, Meta(min_length=1, max_length=64)]
    inputs: Annotated[tuple[TensorEntry, ...], Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[TensorEntry, ...], Meta(min_length=1, max_length=64)]
    artefacts: Annotated[tuple[ArtefactEntry, ...], Meta(min_length=1, max_length=32)]
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=256)]
    golden: Golden | None = None
    input_processing: dict[str, InputProcessing] = msgspec.field(default_factory=dict)
    output_processing: dict[str, OutputProcessing] = msgspec.field(default_factory=dict)
    parity: dict[str, Any] = msgspec.field(default_factory=dict)
    provenance: dict[str, Any] = msgspec.field(default_factory=dict)
    requires: Requires = Requires()
    floor: Release | UnsetType = UNSET
    targets: Targets | UnsetType = UNSET
    statistics: (
        Annotated[dict[Annotated[str, Meta(max_length=260)], Statistics], Meta(max_length=128)]
        | UnsetType
    ) = UNSET

    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The input signature."""
        return tuple(entry.spec() for entry in self.inputs)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The output signature."""
        return tuple(entry.spec() for entry in self.outputs)

    def golden_of(self, entry: ArtefactEntry) -> Golden | None:
        """What the answers of one model file are held against: its own rows, or the bundle's."""
        return entry.golden if isinstance(entry.golden, Golden) else self.golden

    @property
    def makes_texts(self) -> bool:
        """Whether the model goes on with a text; see ``generating``."""
        return any(entry.runtime == "genai" for entry in self.artefacts)

    @property
    def is_row_wise(self) -> bool:
        """Whether rows of several requests may share a run: batch is the first axis everywhere."""
        specs = (*self.input_specs(), *self.output_specs())
        return all(spec.is_batched for spec in specs)


ManifestOf = Callable[[str, "int | str | None"], Manifest | None]
"""By a model and a release or an alias: the manifest of what is to answer; None when nothing is."""


def parse_manifest(data: bytes) -> Manifest:
    """Read and check a manifest.

    Args:
        data: the bytes of ``manifest.json``, at most MANIFEST_CAP_BYTES.

    Raises:
        ManifestError: malformed, over a cap, or contradicting itself; names the field.
    """
    if len(data) > MANIFEST_CAP_BYTES:
        raise ManifestError(
            f"manifest.json has {len(data)} bytes; the limit is {MANIFEST_CAP_BYTES}"
        )
    try:
        manifest = decoding.decode(data, Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise ManifestError(f"manifest.json: {exc}") from exc
    if canonical_json(manifest) != data:
        raise ManifestError(
            "manifest.json is not in canonical form (ASCII, sorted keys, no spaces); "
            "write it with edged-convert"
        )
    _check(manifest)
    return manifest


def canonical_json(manifest: Manifest) -> bytes:
    """The one byte form of a manifest: what is hashed and signed."""
    return json.dumps(
        msgspec.to_builtins(manifest), sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("ascii")


def _check(manifest: Manifest) -> None:
    """Refuse what is well formed but contradicts itself."""
    for kind, entries in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        _unique(kind, [entry.name for entry in entries])
        for index, entry in enumerate(entries):
            if entry.dtype not in ALL_DTYPES:
                raise ManifestError(
                    f'{kind}[{index}].dtype: "{entry.dtype}" is not a known dtype; '
                    f"expected one of {', '.join(ALL_DTYPES)}"
                )
    if isinstance(manifest.floor, int) and manifest.floor > manifest.release:
        raise ManifestError(
            f"floor: {manifest.floor} is above the release itself ({manifest.release}), which "
            "would shut itself out"
        )
    if isinstance(manifest.statistics, dict):
        _check_statistics(manifest, manifest.statistics)
    _unique("members", [member.name for member in manifest.members])
    members = {member.name for member in manifest.members}
    files = [(f"artefacts[{i}].file", a.file) for i, a in enumerate(manifest.artefacts)]
    if manifest.golden is not None:
        files.append(("golden.file", manifest.golden.file))
    for index, artefact in enumerate(manifest.artefacts):
        if isinstance(artefact.golden, Golden):
            files.append((f"artefacts[{index}].golden.file", artefact.golden.file))
        if isinstance(artefact.files, tuple) != (artefact.runtime == "genai"):
            raise ManifestError(
                f"artefacts[{index}].files: expected of every genai artefact, and of no other"
            )
        if isinstance(artefact.files, tuple):
            _unique(f"artefacts[{index}].files", [artefact.file, *artefact.files])
            files += [(f"artefacts[{index}].files", name) for name in artefact.files]
    for path, file in files:
        if file not in members:
            raise ManifestError(f'{path}: "{file}" is not among members')
    _check_processing(manifest)
    _check_golden(manifest)


def _check_processing(manifest: Manifest) -> None:
    inputs = {entry.name: entry for entry in manifest.inputs}
    for name, work in manifest.input_processing.items():
        if name not in inputs:
            raise ManifestError(f'input_processing: "{name}" is not an input')
        if isinstance(work, FeaturesInput) and inputs[name].shape[1:] != (len(work.names),):
            raise ManifestError(
                f"input_processing.{name}: {len(work.names)} columns do not fit "
                f"{inputs[name].spec()}"
            )
        if isinstance(work, TextInput) and not _is_text(inputs[name]):
            raise ManifestError(
                f"input_processing.{name}: text is in bytes, the input is {inputs[name].spec()}"
            )
        if isinstance(work, FeaturesInput):
            _check_words(f"input_processing.{name}", work, inputs[name])
    outputs = {entry.name: entry for entry in manifest.outputs}
    for name, output in manifest.output_processing.items():
        if name not in outputs:
            raise ManifestError(f'output_processing: "{name}" is not an output')
        shape = outputs[name].shape
        if output.text is True and not _is_text(outputs[name]):
            raise ManifestError(
                f"output_processing.{name}: text is in bytes, the output is {outputs[name].spec()}"
            )
        if output.labels and (not shape or shape[-1] != len(output.labels)):
            raise ManifestError(
                f"output_processing.{name}: {len(output.labels)} labels do not fit the last axis "
                f"of {outputs[name].spec()}"
            )


def _is_text(entry: TensorEntry) -> bool:
    """Whether a tensor can be texts: bytes along the last axis, which are not the rows."""
    return entry.dtype == "uint8" and entry.shape[-1:] not in ((), (BATCH,))


def _check_statistics(manifest: Manifest, statistics: Mapping[str, Statistics]) -> None:
    known = {f"in.{entry.name}" for entry in manifest.inputs}
    known |= {f"out.{entry.name}" for entry in manifest.outputs}
    for name, one in statistics.items():
        if name not in known:
            raise ManifestError(f'statistics: "{name[:64]}" is none of its tensors')
        edges = one.edges
        if len(one.shares) != len(edges) + 1 or list(edges) != sorted(set(edges)):
            raise ManifestError(
                f"statistics.{name}: expected edges that rise, and one share more than edges"
            )


def _check_golden(manifest: Manifest) -> None:
    own = {
        f"artefacts[{index}].golden": entry.golden
        for index, entry in enumerate(manifest.artefacts)
        if isinstance(entry.golden, Golden)
    }
    for path, golden in ({"golden": manifest.golden} | own).items():
        for name in golden.tolerances if golden else ():
            if name not in {entry.name for entry in manifest.outputs}:
                raise ManifestError(f'{path}.tolerances: "{name}" is not an output')
    for path, golden in own.items():
        if manifest.golden is None:
            raise ManifestError(
                f"{path}: its inputs are those of the bundle's golden, and that is not there"
            )
        most = manifest.golden.rows
        if golden.rows > most or (golden.rows < most and not manifest.is_row_wise):
            raise ManifestError(
                f"{path}.rows: {golden.rows} do not fit the {most} rows of golden, whose inputs "
                "they share"
            )


def _check_words(path: str, work: FeaturesInput, entry: TensorEntry) -> None:
    """Refuse columns of words whose numbers are not told or not held exactly."""
    if work.words and entry.dtype not in WORD_DTYPES:
        raise ManifestError(
            f"{path}.words: the numbers of words need one of {', '.join(WORD_DTYPES)}; the input "
            f"is {entry.spec()}"
        )
    for name, column in work.words.items():
        if work.names.count(name) != 1:
            raise ManifestError(f'{path}.words: "{name[:64]}" is not the name of one column')
        if len(set(column.words)) != len(column.words):
            raise ManifestError(f'{path}.words: column "{name[:64]}" has a word twice')
        if column.missing is not None and (
            column.missing > len(column.words)
            or (column.missing == UNKNOWN_WORD and not column.unknown)
        ):
            raise ManifestError(
                f'{path}.words: column "{name[:64]}" has {len(column.words)} words; missing cannot '
                f"be {column.missing}"
            )


def _unique(path: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ManifestError(f'{path}: "{name}" occurs twice')


@functools.lru_cache(256)
def version_tuple(version: str) -> tuple[int, ...]:
    """``"0.1.0"`` as numbers, for comparing with ``requires``; other characters are ignored."""
    return tuple(int(part) for part in re.findall(r"[0-9]{1,9}", version)[:3])
