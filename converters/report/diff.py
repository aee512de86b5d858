"""Two bundles held against each other: promise, operators, numbers, size. Pure."""

from __future__ import annotations

from typing import Any

from converters.report.evidence import ArtefactEvidence, Evidence
from converters.show import Table

SAME = "="


def diff_evidence(first: Evidence, second: Evidence) -> list[Table]:
    """What differs, a table a subject; a subject in which nothing differs says so in one row.

    Args:
        first: the older one.
        second: the newer one.
    """
    one, two = _promise(first), _promise(second)
    tables = [
        _table("bundle", _bundle(first), _bundle(second)),
        _table("signature", one, two),
        _table("processing and grade", _meaning(first), _meaning(second)),
        _table("numbers", _numbers(first), _numbers(second)),
    ]
    files = {entry.file: entry for entry in first.artefacts}
    others = {entry.file: entry for entry in second.artefacts}
    for name in dict.fromkeys([*files, *others]):
        title = f"file {name}"
        tables.append(_table(title, _file(files.get(name)), _file(others.get(name))))
    tables.append(_table("provenance", _provenance(first), _provenance(second)))
    return tables


def _table(title: str, one: dict[str, str], two: dict[str, str]) -> Table:
    keys = [key for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]
    if not keys:
        return Table(title, (), ((SAME, "no difference"),))
    rows = tuple((key, one.get(key, "-"), two.get(key, "-")) for key in keys)
    return Table(title, ("", "first", "second"), rows)


def _bundle(evidence: Evidence) -> dict[str, str]:
    return {key: str(value) for key, value in evidence.bundle.items()}


def _promise(evidence: Evidence) -> dict[str, str]:
    named: dict[str, str] = {}
    for kind in ("inputs", "outputs"):
        for text in evidence.signature.get(kind, ()):
            name, _, spec = text.partition(" ")
            named[f"{kind.removesuffix('s')} {name}"] = spec
    return named


def _meaning(evidence: Evidence) -> dict[str, str]:
    parity = evidence.manifest.get("parity", {})
    keys = ("grade", "reference", "rows", "edges", "rtol", "atol")
    return {key: str(parity[key]) for key in keys if key in parity}


def _numbers(evidence: Evidence) -> dict[str, str]:
    """As the manifests have them: they were made the same way, on two digits."""
    outputs = evidence.manifest.get("parity", {}).get("outputs", {})
    return {
        f"{name} {key}": str(value)
        for name, fields in (outputs.items() if isinstance(outputs, dict) else ())
        for key, value in (fields.items() if isinstance(fields, dict) else ())
    }


def _file(entry: ArtefactEvidence | None) -> dict[str, str]:
    if entry is None:
        return {}
    return {
        "precision": entry.precision,
        "size": f"{entry.size_bytes} bytes",
        "opset": str(entry.opset),
        **{f"operator {name}": str(count) for name, count in sorted(entry.nodes.items())},
    }


def _provenance(evidence: Evidence) -> dict[str, str]:
    return _flat(evidence.manifest.get("provenance", {}), "")


def _flat(fields: dict[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat
