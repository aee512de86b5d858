"""The report as one page of HTML: no script, no font, nothing from a network.

Everything that comes from a bundle is text and is escaped; a policy in the page itself forbids
scripts and fetching on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from converters.report.evidence import ArtefactEvidence, Evidence, OutputEvidence, WorstRow
from converters.report.gather import by_precision
from converters.report.numbers import VALUES
from converters.report.plots import Bar, columns, rows
from converters.report.style import STYLE
from converters.show import Table, describe_float16, describe_int8

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
PART = f"<p>Of each row, the {VALUES} values that differ most, in their order.</p>"
_MARKS = {"passed": "ok", "remark": "note", "not checked": "open"}


def render(evidence: Evidence) -> str:
    """The whole page."""
    bundle = evidence.bundle
    title = f"{bundle.get('name')} release {bundle.get('release')}"
    parts = [
        _head(evidence, title),
        _checks(evidence),
        *(_output(output, evidence.data) for output in evidence.outputs),
        _precision(evidence),
        _latency(evidence),
        _repaired(evidence),
        _conversion(evidence),
        _origin(evidence),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(part for part in parts if part)}</main></body></html>\n"
    )


def _head(evidence: Evidence, title: str) -> str:
    bundle, parity = evidence.bundle, evidence.manifest.get("parity", {})
    grade = str(parity.get("grade", "not graded"))
    meaning = {
        "verified": "proven against the framework on the user's own data",
        "checked": "compared with the framework on made rows only",
    }.get(grade, "made by a converter that did not grade")
    target = evidence.manifest.get("provenance", {}).get("target", {})
    facts = [
        ("digest", _code(bundle.get("digest", ""))),
        ("signed", "yes" if bundle.get("signed") else "no"),
        ("size", escape(_bytes(bundle.get("size_bytes", 0)))),
        ("target", escape(_target(target))),
        *(("input", _code(text)) for text in evidence.signature.get("inputs", ())),
        *(("output", _code(text)) for text in evidence.signature.get("outputs", ())),
    ]
    kind = "ok" if grade == "verified" else "note"
    return (
        f'<header><h1>{escape(title)}</h1><p class="lead"><span class="chip {kind}">'
        f"{escape(grade)}</span> {escape(meaning)}</p>{_facts(facts)}</header>"
    )


def _target(fields: Any) -> str:
    if not isinstance(fields, dict):
        return str(fields)
    rest = {key: value for key, value in fields.items() if key != "name"}
    return f"{fields.get('name', 'not said')} ({_pairs(rest)})"


def _checks(evidence: Evidence) -> str:
    if not evidence.checks:
        return _section(
            "Checks",
            '<p class="dim">This report was made from the bundle alone; what the gate looked at is '
            "in the report that was written beside it when it was converted.</p>",
        )
    lines = [
        (
            escape(check.name),
            f'<span class="chip {_MARKS[check.verdict]}">{escape(_verdict(check.verdict))}</span>',
            escape(check.detail),
            f"{check.seconds:.2f} s",
        )
        for check in evidence.checks
    ]
    return _section("Checks", _table(("check", "", "what was seen", "took"), lines, "checks"))


def _verdict(verdict: str) -> str:
    return "NOT CHECKED" if verdict == "not checked" else verdict


def _output(output: OutputEvidence, data: str) -> str:
    what = "sample rows" if data == "samples" else "golden rows in the bundle"
    agreement = (
        "" if output.label_agreement is None else f", same best class {output.label_agreement:.2%}"
    )
    constant = (
        '<p><span class="chip note">remark</span> the framework gives the same for every row: '
        "these numbers prove nothing</p>"
        if output.is_constant
        else ""
    )
    labels = ["equal", "> 0", *(_share(low) for low in output.bins[2:-1]), "beyond"]
    bars = [
        Bar(label, number, str(number), is_bad=label == "beyond")
        for label, number in zip(labels, output.counts, strict=True)
    ]
    plot = columns(
        bars,
        title=f"rows of {output.name} by their share of the allowed difference",
        x_label="share of the allowed difference that a row uses, from this on",
        marks_last="allowed",
    )
    worst = [
        (
            str(entry.row),
            escape(_share_text(entry)),
            _number(entry.max_abs),
            _code(_values(entry.framework)),
            _code(_values(entry.converted)),
        )
        for entry in output.worst
    ]
    head = ("row", "of the allowed", "difference", "framework", "converted")
    # A row with fewer values than are kept is shown whole.
    is_part = any(len(entry.framework) == VALUES for entry in output.worst)
    shown = f"{plot}<h3>Nearest to failing</h3>{PART if is_part else ''}{_table(head, worst)}"
    if output.counts[0] == output.rows:
        shown = "<p>Every row is equal to the last bit.</p>"
    return _section(
        f'Output "{output.name}"',
        f"<p>{output.rows} {what}; largest difference {_number(output.max_abs)}, relative "
        f"{_number(output.max_rel)}; {output.rows_beyond} beyond the tolerance{agreement}.</p>"
        f"{constant}{shown}",
    )


def _precision(evidence: Evidence) -> str:
    entries = by_precision(evidence)
    if not entries:
        return ""
    bars = [
        Bar(entry.precision, entry.size_bytes, f"{_bytes(entry.size_bytes)}, {_accuracy(entry)}")
        for entry in entries
    ]
    lines = [
        (
            _code(entry.file),
            escape(entry.precision),
            escape(_bytes(entry.size_bytes)),
            str(entry.opset or ""),
            escape(", ".join(f"{name} {count}" for name, count in list(entry.nodes.items())[:8])),
        )
        for entry in entries
    ]
    table = _table(("file", "precision", "size", "opset", "operators"), lines)
    plot = rows(bars, title="size and accuracy by precision")
    return _section("Size and accuracy by precision", plot + table + _lowered(evidence))


def _lowered(evidence: Evidence) -> str:
    """What a lower precision costs, and what stays in float32."""
    parity = evidence.manifest.get("parity", {})
    parts = "".join(_shown(table) for table in describe_int8(parity))
    if parts:
        parts += (
            '<p class="dim">The errors per output above are those of the float32 model, from which '
            "the int8 one was made; the golden rows hold the int8 model's own answers.</p>"
        )
    return parts + "".join(_shown(table) for table in describe_float16(parity))


def _shown(table: Table) -> str:
    lines = [[escape(cell) for cell in line] for line in table.rows]
    return f"<h3>{escape(table.title)}</h3>{_table([escape(c) for c in table.head], lines)}"


def _accuracy(entry: ArtefactEvidence) -> str:
    agreement = (
        "" if entry.label_agreement is None else f"same best class {entry.label_agreement:.1%}, "
    )
    return f"{agreement}largest difference {_number(entry.max_abs)}"


def _latency(evidence: Evidence) -> str:
    plots = []
    for entry in by_precision(evidence):
        bars = [
            Bar(
                f"{point.rows}: {_time(point.milliseconds)}",
                point.milliseconds / point.rows,
                _time(point.milliseconds / point.rows),
            )
            for point in entry.latency
        ]
        plot = columns(
            bars,
            title=f"latency of {entry.file} by batch",
            x_label="rows in a run: time of the run; above the bars: time of a row",
            height=170,
        )
        plots.append(f"<h3>{escape(entry.file)}, {escape(entry.precision)}</h3>{plot}")
    if not plots:
        return ""
    where = ", ".join(f"{key} {value}" for key, value in evidence.machine.items())
    note = (
        f'<p class="dim">Median on the converting machine ({escape(where)}). It is not part of the '
        "bundle: a device measures for itself.</p>"
    )
    return _section("Latency by batch", note + "".join(plots))


def _repaired(evidence: Evidence) -> str:
    parts = ""
    if evidence.remedies:
        lines = [(escape(r.trap), escape(r.where), escape(r.what)) for r in evidence.remedies]
        parts += _table(("trap", "where", "what was done"), lines)
    if evidence.warnings:
        said = "".join(f"<li>{escape(text[:500])}</li>" for text in evidence.warnings[:20])
        parts += f"<h3>The framework says</h3><ul>{said}</ul>"
    return _section("Repaired", parts) if parts else ""


def _conversion(evidence: Evidence) -> str:
    if not evidence.steps:
        return ""
    bars = [Bar(step.name, step.seconds, f"{step.seconds:.2f} s") for step in evidence.steps]
    peak = max(step.peak_bytes for step in evidence.steps)
    text = f'<p class="dim">At most {_bytes(peak)} of memory in one process.</p>'
    return _section("The conversion", rows(bars, title="seconds by step") + text)


def _origin(evidence: Evidence) -> str:
    fields = evidence.manifest.get("provenance", {})
    facts = [
        (key, escape(_pairs(value) if isinstance(value, dict) else str(value)))
        for key, value in fields.items()
        if key not in ("remedies", "target")
    ]
    parity = evidence.manifest.get("parity", {})
    facts += [
        (key, escape(str(parity[key]))) for key in ("reference", "rtol", "atol") if key in parity
    ]
    return _section("Where it comes from", _facts(facts))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    """A list of terms; the second of each pair is HTML already."""
    inner = "".join(f"<dt>{escape(key)}</dt><dd>{value}</dd>" for key, value in facts)
    return f"<dl>{inner}</dl>"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table whose cells are HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _code(text: str) -> str:
    return f"<code>{escape(str(text))}</code>"


def _pairs(fields: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items())


def _values(values: Sequence[float | None]) -> str:
    return ", ".join("not finite" if v is None else f"{v:.6g}" for v in values)


def _share(low: float) -> str:
    return f"{low:.0%}" if low >= 0.01 else f"{low * 100:.2g}%"


def _share_text(entry: WorstRow) -> str:
    return "beyond" if entry.share is None else f"{entry.share:.2%}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def _time(milliseconds: float) -> str:
    if milliseconds < 1:
        return f"{milliseconds * 1000:.3g} µs"
    return f"{milliseconds:.3g} ms"


def _bytes(size: Any) -> str:
    number = float(size) if isinstance(size, int | float) else 0.0
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
