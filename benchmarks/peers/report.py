"""Rows and tables out of what was found. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import figures
from benchmarks.peers.measure import CONNECTIONS, Found, Side
from benchmarks.results import Row, measured, not_measured

OURS, FLOOR, CLIENT = "edged", "grpcio", "grpc-client-floor"
TRITON = ("triton", "pytriton")
NOTHING = "\u2013"
PYTHON = ("mlserver", "kserve", "bentoml", "litserve", "mlflow")
NEXT_BEST = {1: ">= 5", 16: ">= 8"}
"""Requests a second ÷ those of the best of the five, by connections."""


def rows(sides: Sequence[Side], found: Found) -> list[Row]:
    """Every bar, then every figure.

    Args:
        sides: everybody who was asked, with why not where they were not.
        found: what the rounds gave.
    """
    why = {f"{side.name}-{way}": text for side in sides for way, text in side.problems.items()}
    return [*_bars(found, why), *_figures(sides, found, why)]


def _bars(found: Found, why: Mapping[str, str]) -> list[Row]:
    made = []
    for count, bar in NEXT_BEST.items():
        names = [f"{name}-http-{count}" for name in PYTHON]
        there = [name for name in names if name in found]
        best = max(there, key=lambda name: figures.median(found[name]["per_s"]), default=names[0])
        row = _ratio(f"peers-http-{count}", (f"{OURS}-http-{count}", best), bar, found, why)
        absent = [name for name in PYTHON if f"{name}-http-{count}" not in found]
        made.append(_without(row, absent))
    for way, bar in (("http", ">= 5"), ("grpc", ">= 2")):
        for peer in TRITON:
            for count in CONNECTIONS:
                ends = (f"{OURS}-{way}-{count}", f"{peer}-{way}-{count}")
                made.append(_ratio(f"{peer}-over-{way}-{count}", ends, bar, found, why))
    # As high as the ratio over gRPC can be at all: nobody is faster than one who does nothing.
    for count in CONNECTIONS:
        ends = (f"{CLIENT}-grpc-{count}", f"{TRITON[0]}-grpc-{count}")
        made.append(_ratio(f"triton-over-grpc-{count}-most", ends, "", found, why))
    ends = (f"{OURS}-grpc-1", f"{FLOOR}-grpc-1")
    made.append(_ratio("grpc-1", ends, "<= 1.15", found, why, key="p50_us"))
    return made


def _ratio(
    name: str,
    ends: tuple[str, str],
    bar: str,
    found: Found,
    why: Mapping[str, str],
    *,
    key: str = "per_s",
) -> Row:  # fmt: skip
    for side in ends:
        if side not in found:
            reason = why.get(side.rpartition("-")[0], "it was not asked")
            return not_measured(name, "x", bar, f"{side}: {reason}")
    rounds = {one: found[one][key] for one in ends}
    value = figures.paired_ratio(*rounds.values())
    return measured(name, value, "x", bar, {key: rounds})


def _without(row: Row, absent: Sequence[str]) -> Row:
    """A best of fewer than all holds no bar: the one that is missing may be better."""
    if row.value is None or not absent:
        return row
    said = {**row.raw, "not there": list(absent)}
    return Row(row.name, row.value, row.unit, row.bar, None, said)


def _figures(sides: Sequence[Side], found: Found, why: Mapping[str, str]) -> list[Row]:
    made = []
    for side in sides:
        for way in sorted({*side.ways, *side.problems}):
            for count in CONNECTIONS:
                name = f"{side.name}-{way}-{count}"
                if name in found:
                    value = figures.median(found[name]["per_s"])
                    made.append(measured(name, value, "/s", "", {**found[name]}))
                else:
                    made.append(
                        not_measured(
                            name, "/s", "", why.get(f"{side.name}-{way}", "it was not asked")
                        )
                    )
        for key, unit, bar in (
            ("ready_s", "s", ""), ("memory_mb", "MB", ""), ("memory_grpc_mb", "MB", "<= 125"),
        ):  # fmt: skip
            if key in side.facts:
                name = f"{side.name}-{key.rpartition('_')[0].replace('_', '-')}"
                made.append(measured(name, side.facts[key], unit, bar, dict(side.facts)))
    return made


def document(sides: Sequence[Side], found: Found, machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the picture and the table are made of: medians of the rounds.

    Returns:
        ``{"machine": …, "sides": [{"name", "facts", "http-1": {"per_s", "p50_us", "p99_us"}, …}]}``
    """
    made = []
    for side in sides:
        one: dict[str, Any] = {"name": side.name, "facts": dict(side.facts)}
        for way in ("http", "grpc"):
            for count in CONNECTIONS:
                if rounds := found.get(f"{side.name}-{way}-{count}"):
                    one[f"{way}-{count}"] = {
                        key: round(figures.median(values), 1) for key, values in rounds.items()
                    }
        made.append(one)
    return {"machine": dict(machine), "sides": made}


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a document, for a page."""
    head = "| server | HTTP, 1: /s, p50, p99 | HTTP, 16 | gRPC, 1 | gRPC, 16 | resident | ready |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for side in found["sides"]:
        cells = [_cell(side.get(f"{way}-{n}")) for way in ("http", "grpc") for n in CONNECTIONS]
        facts = side["facts"]
        memory = f"{facts['memory_mb']:.0f} MB" if "memory_mb" in facts else NOTHING
        ready = f"{facts['ready_s']:.1f} s" if "ready_s" in facts else NOTHING
        lines.append("| " + " | ".join([f"`{side['name']}`", *cells, memory, ready]) + " |")
    return "\n".join(lines)


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return NOTHING
    times = [_time(found[key]) for key in ("p50_us", "p99_us")]
    return f"{found['per_s']:,.0f}, {', '.join(times)}"


def _time(us: float) -> str:
    return f"{us:.0f} µs" if us < 1000 else f"{us / 1000:.1f} ms"
