"""Bundles and reports as tables of text. Pure: no terminal, no files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from converters.verify import name_of
from edged.manifest import Manifest, TensorEntry
from edged.specs import FeaturesInput, InputProcessing, TextInput
from edged.store.signing import parse_signatures

if TYPE_CHECKING:
    from converters.workflow import Report


@dataclass(frozen=True)
class Table:
    """Rows under a title; ``head`` may be empty."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def with_cells(self, change: Callable[[str], str]) -> Table:
        """The same table with every text changed."""
        head = tuple(map(change, self.head))
        return Table(change(self.title), head, tuple(tuple(map(change, row)) for row in self.rows))

    def plain(self) -> str:
        """The table as lines that also a pipe can read."""
        lines = [*([self.head] if self.head else []), *self.rows]
        if not lines:
            return self.title
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        body = (
            "  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        return "\n".join([self.title, *body])


def describe_bundle(data: bytes, manifest: Manifest, signatures: bytes | None) -> list[Table]:
    """Everything that a bundle says of itself.

    Args:
        data: the manifest's bytes.
        manifest: the same, read.
        signatures: the bytes of ``signatures.json``, or None.
    """
    signers = [key for key, _ in parse_signatures(signatures)] if signatures else []
    tables = [
        Table(
            "bundle",
            (),
            (
                ("model", manifest.name),
                ("release", f"{manifest.release} ({manifest.version})"),
                ("digest", hashlib.sha256(data).hexdigest()),
                ("signed by", ", ".join(signers) or "nobody"),
                ("needs", f"edged {manifest.requires.edged}"),
                *_precisions(manifest),
            ),
        ),
        _tensors(manifest),
    ]
    processing = _processing(manifest)
    if processing:
        tables.append(Table("meaning", ("tensor", "is"), tuple(processing)))
    if manifest.parity:
        tables.append(_parity(manifest.parity))
        tables += [*describe_int8(manifest.parity), *describe_float16(manifest.parity)]
    if manifest.golden is not None:
        text = f"{manifest.golden.rows} rows in {manifest.golden.file}"
        tables.append(Table("golden samples", (), (("rows", text),)))
    remedies = _remedies(manifest.provenance)
    if remedies:
        tables.append(Table("repaired", ("trap", "where", "what"), remedies))
    if manifest.provenance:
        rest = {k: v for k, v in manifest.provenance.items() if k != "remedies"}
        tables.append(Table("provenance", (), tuple(_flat(rest))))
    tables.append(
        Table(
            "members",
            ("name", "type", "bytes", "sha256"),
            tuple((m.name, m.type, str(m.size), m.sha256) for m in manifest.members),
        )
    )
    return tables


def describe_report(report: Report) -> list[Table]:
    """What a conversion did, in short; ``inspect`` shows the rest."""
    manifest = report.manifest
    artefact = manifest.artefacts[0]
    rows = [
        ("written", str(report.path)),
        ("model", f"{manifest.name} release {manifest.release} ({manifest.version})"),
        ("digest", report.digest),
        ("graph", f"ONNX opset {artefact.opset}, IR {artefact.ir}"),
        *_precisions(manifest),
        ("signed", "yes" if report.is_signed else "no (--key, or edged-convert sign)"),
        ("converted in", report.isolation),
        *((f"repaired: {trap}", what) for trap, _, what in _remedies(manifest.provenance)),
        *(("framework says", text[:200]) for text in report.warnings[:8]),
    ]
    checks = tuple(
        (
            check.name,
            "NOT CHECKED" if check.verdict == "not checked" else check.verdict,
            check.detail,
        )
        for check in report.checks
    )
    return [
        Table("bundle", (), tuple(rows)),
        _tensors(manifest),
        _parity(manifest.parity),
        *describe_int8(manifest.parity),
        *describe_float16(manifest.parity),
        Table("checks", ("check", "", "what was seen"), checks),
    ]


def _precisions(manifest: Manifest) -> list[tuple[str, str]]:
    """What a device may choose from, and what was left out; nothing where there is one file."""
    rows = []
    if len(manifest.artefacts) > 1:
        files = ", ".join(f"{name_of(entry)} ({entry.file})" for entry in manifest.artefacts)
        rows.append(("precisions", files))
    out = manifest.parity.get("left_out")
    if isinstance(out, dict):
        rows += [(f"{name} left out", str(why)) for name, why in out.items()]
    return rows


def _tensors(manifest: Manifest) -> Table:
    rows = [("input", *_tensor(entry)) for entry in manifest.inputs]
    rows += [("output", *_tensor(entry)) for entry in manifest.outputs]
    return Table("tensors", ("", "name", "signature"), tuple(rows))


def _tensor(entry: TensorEntry) -> tuple[str, str]:
    return entry.name, str(entry.spec())


def _processing(manifest: Manifest) -> list[tuple[str, str]]:
    rows = [(name, _input(work)) for name, work in manifest.input_processing.items()]
    for name, output in manifest.output_processing.items():
        parts = [f"labels {_few(output.labels)}"] if output.labels else []
        if output.activation != "none":
            parts.append(f"{output.activation} still to apply")
        rows.append((name, "; ".join(parts)))
    return rows


def _input(work: InputProcessing) -> str:
    if isinstance(work, FeaturesInput):
        words = [f"{name} takes {_few(one.words)}" for name, one in work.words.items()]
        return "; ".join([f"columns {_few(work.names)}", *words])
    if isinstance(work, TextInput):
        return "text"
    text = f"picture {work.width}x{work.height} {work.mode} {work.layout}, {work.resize}"
    text += f", scale {work.scale:g}" if work.scale != 1.0 else ""
    for name, values in (("mean", work.mean), ("std", work.std)):
        text += f", {name} {'/'.join(f'{value:g}' for value in values)}" if values else ""
    return text


def _few(names: tuple[str, ...]) -> str:
    more = f", … ({len(names)})" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more


def _parity(parity: dict[str, Any]) -> Table:
    """The numbers of a manifest's parity field, which is free in form: nothing is assumed."""
    outputs = parity.get("outputs")
    rows = []
    for name, numbers in (outputs if isinstance(outputs, dict) else {}).items():
        cells = numbers if isinstance(numbers, dict) else {}
        agreement = cells.get("label_agreement")
        rows.append(
            (
                str(name),
                str(cells.get("max_abs", "")),
                str(cells.get("max_rel", "")),
                str(cells.get("rows_beyond", "")),
                f"{agreement:.2%}" if isinstance(agreement, float) else "",
            )
        )
    title = (
        f"{parity.get('grade', 'parity')}: {parity.get('rows', '?')} rows "
        f"against {parity.get('reference', '?')}, rtol {parity.get('rtol', '?')}, "
        f"atol {parity.get('atol', '?')}"
    )
    head = ("output", "max abs", "max rel", "rows beyond", "same best class")
    return Table(title, head, tuple(rows))


def describe_int8(parity: dict[str, Any]) -> list[Table]:
    """What int8 costs and gives, where the bundle has a model of that precision."""
    found = {"int8": parity.get("int8"), "int8 for TensorRT": parity.get("int8-tensorrt")}
    return [_cost(name, cost) for name, cost in found.items() if isinstance(cost, dict)]


def _cost(name: str, cost: dict[str, Any]) -> Table:
    sizes = cost.get("bytes")
    sizes = sizes if isinstance(sizes, dict) else {}
    rows = [
        (kind, _share(cost.get(kind)), str(sizes.get(kind, ""))) for kind in ("float32", "int8")
    ]
    title = (
        f"{name}: {_share(cost.get('lost'))} lost of {_share(cost.get('budget'))} allowed, "
        f'output "{cost.get("output", "?")}" on {cost.get("rows", "?")} rows'
    )
    return Table(title, ("precision", str(cost.get("metric", "?")), "bytes"), tuple(rows))


def describe_float16(parity: dict[str, Any]) -> list[Table]:
    """What stays in float32 and why, where the bundle's model is in float16."""
    half = parity.get("float16")
    if not isinstance(half, dict):
        return []
    listed = half.get("islands")
    islands = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    keys = ("node", "operator", "reason")
    rows = [tuple(str(one.get(key, "?")) for key in keys) for one in islands]
    title = f"float16: {half.get('nodes_float16', '?')} of {half.get('nodes', '?')} nodes"
    head = ("node", "operator", "stays in float32")
    return [Table(title, head, tuple(rows or [("none", "", "")]))]


def _share(value: Any) -> str:
    return f"{value:.2%}" if isinstance(value, float | int) else "?"


def _remedies(provenance: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """The repaired traps of a manifest's provenance, which is free in form: nothing is assumed."""
    listed = provenance.get("remedies")
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    keys = ("trap", "where", "what")
    return tuple((*(str(entry.get(key, "")) for key in keys),) for entry in entries)  # type: ignore[misc]


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in fields.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", str(value)))
    return rows
