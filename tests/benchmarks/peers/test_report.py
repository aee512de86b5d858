"""Rounds become ratios, and whoever was not measured holds nothing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks.peers import picture, report, run
from benchmarks.peers.measure import CONNECTIONS, Found, Side, in_turns
from benchmarks.stand import BenchError


def rounds(*rates: float, p50_us: float = 100.0) -> dict[str, list[float]]:
    return {
        "per_s": list(rates), "p50_us": [p50_us] * len(rates), "p99_us": [2 * p50_us] * len(rates)
    }  # fmt: skip


def everybody() -> tuple[list[Side], Found]:
    rates = dict.fromkeys(report.PYTHON, 100.0) | {"kserve": 400.0, "triton": 1000, "pytriton": 200}
    found = {}
    for count in CONNECTIONS:
        found |= {f"{name}-http-{count}": rounds(rate, rate) for name, rate in rates.items()}
        found[f"edged-http-{count}"] = rounds(4000, 4400)
        for name in ("edged", "triton", "grpcio"):
            found[f"{name}-grpc-{count}"] = rounds(
                1000, 1100, p50_us=230 if name[0] == "e" else 200
            )
    sides = [Side("edged", {}, facts={"ready_s": 0.4, "memory_mb": 80.0, "memory_grpc_mb": 90.0})]
    sides += [Side(name, {"http": lambda _: {}}) for name in rates]
    sides[-1].problems["grpc"] = "pytriton does not serve: it ended"
    return sides, found


def test_bars():
    sides, found = everybody()
    rows = {row.name: row for row in report.rows(sides, found)}
    assert (rows["peers-http-16"].value, rows["peers-http-16"].holds) == (10.5, True)
    assert set(rows["peers-http-16"].raw["per_s"]) == {"edged-http-16", "kserve-http-16"}
    assert (rows["triton-over-http-1"].value, rows["triton-over-http-1"].holds) == (4.2, False)
    found["grpc-client-floor-grpc-1"] = rounds(2000, 2200)
    most = {row.name: row for row in report.rows(sides, found)}["triton-over-grpc-1-most"]
    assert (most.value, most.bar, most.holds) == (2.0, "", None)
    assert rows["grpc-1"].value == pytest.approx(1.15)
    absent = rows["pytriton-over-grpc-1"]
    assert absent.value is None
    assert "pytriton-grpc-1: pytriton does not serve" in absent.raw["why"]
    assert (rows["edged-memory-grpc"].value, rows["edged-memory-grpc"].holds) == (90, True)
    assert rows["kserve-http-1"].value == 400


def test_the_best_of_fewer_than_all_holds_no_bar():
    sides, found = everybody()
    del found["mlflow-http-1"]
    (row,) = (row for row in report.rows(sides, found) if row.name == "peers-http-1")
    assert (row.value, row.holds, row.raw["not there"]) == (10.5, None, ["mlflow"])


def test_everybody_has_as_many_rounds_or_none():
    asked = []

    def fails(count: int) -> dict[str, float]:
        asked.append(count)
        if len(asked) > 2:
            raise BenchError("gone")
        return dict.fromkeys(("per_s", "p50_us", "p99_us"), 1.0)

    side = Side(
        "peer", {"http": fails, "grpc": lambda _: dict.fromkeys(("per_s", "p50_us", "p99_us"), 2.0)}
    )
    found = in_turns([side], 3)
    assert {key: len(value["per_s"]) for key, value in found.items()} == {
        "peer-grpc-1": 3, "peer-grpc-16": 3
    }  # fmt: skip
    assert side.problems == {"http": "gone"}
    assert asked == [1, 16, 1, 1], "once more, and then no more"


def test_table_and_picture_have_everybody():
    sides, found = everybody()
    document = report.document(sides, found, {"cores": 2})
    table = report.markdown(document)
    assert "| `edged` | 4,200, 100 µs, 200 µs |" in table
    assert "| 80 MB | 0.4 s |" in table
    assert len(table.splitlines()) == 2 + len(sides)
    root = ET.fromstring(picture.draw(document, "A <title>"))
    svg = "{http://www.w3.org/2000/svg}"
    texts = [one.text for one in root.iter(f"{svg}text")]
    assert {"A <title>", "edged", "mlflow", "4,200", "100 µs"} <= set(texts)
    names = [text for text in texts if text in {side.name for side in sides}]
    assert names[:3] == ["edged", "triton", "kserve"], "in the order of their requests"
    widths = {
        float(one.get("width", "0")): one for one in root.iter(f"{svg}rect")
        if one.get("fill") == picture.OURS[0]
    }  # fmt: skip
    assert len(widths) > 1
    assert min(widths) > 10


def test_the_picture_that_is_kept_is_that_of_the_figures_that_are_kept():
    document = json.loads(run.DATA.read_text())
    assert picture.draw(document, run.TITLE) == run.PICTURE.read_text()
