"""The text: read back by Prometheus' own parsers, figure by figure."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from edged.errors import ConfigError
from edged.telemetry import exposition
from edged.telemetry.exposition import CELLS, Family, Figure, Kind, Times, merged, render

OPEN = "application/openmetrics-text; version=1.0.0"
ODD = 'a "quoted"\\ name\nin two lines'


def families() -> list[Family]:
    cells = [0] * CELLS
    cells[3], cells[13], cells[14], cells[34], cells[40] = 1, 2, 4, 8, 16
    return [
        Family(Figure("a_requests", Kind.COUNTER, "Requests.", ("model",)), {(ODD,): 3}),
        Family(Figure("a_rows", Kind.GAUGE, "Rows."), {(): 0.5}),
        Family(Figure("a_build", Kind.INFO, "Build.", ("version",)), {("1.2",): 1}),
        Family(
            Figure("a_seconds", Kind.HISTOGRAM, "Time.", ("model",)), {("m",): Times(cells, 10**9)}
        ),
    ]


def text(accept: str = "", found: list[Family] | None = None) -> tuple[str, str]:
    data, content_type = asyncio.run(render(families() if found is None else found, accept))
    return data.decode(), content_type


def samples(parsed: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parsed
        for sample in family.samples
    }


@pytest.mark.parametrize(("accept", "parse"), [("", parse_plain), (OPEN, parse_open)])
def test_both_forms_read_back(accept: str, parse: Any):
    body, content_type = text(accept)
    assert ("openmetrics" in content_type) == bool(accept)
    assert body.count("# EOF") == (1 if accept else 0)
    found = samples(parse(body))
    assert found["a_requests_total", (("model", ODD),)] == 3
    assert found["a_rows", ()] == 0.5
    assert found["a_build_info", (("version", "1.2"),)] == 1
    assert found["a_seconds_sum", (("model", "m"),)] == 1
    assert found["a_seconds_count", (("model", "m"),)] == 31
    # Below the first bound, on each bound, and above the last one.
    at = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "a_seconds_bucket"
    }
    assert at[2**13 / 1e9] == 3
    assert at[2**14 / 1e9] == 7
    assert at[2**33 / 1e9] == 7
    assert at[2**34 / 1e9] == 15
    assert at[float("inf")] == 31
    assert len(at) == 23


def test_nothing_is_a_text_too():
    assert text("", []) == ("", text()[1])


def test_the_loop_has_its_turn_between_families():
    async def work() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await render(families())
        task.cancel()
        return turns

    asyncio.run(render([]))  # the import is over
    assert asyncio.run(work()) >= len(families())


def test_two_values_of_one_series():
    assert merged(Kind.COUNTER, 2, 3) == 5
    assert merged(Kind.FLAG, 0, 1) == 1
    assert merged(Kind.INFO, 1, 1) == 1
    assert merged(Kind.HISTOGRAM, Times((1, 2), 3), Times((4, 5), 6)) == Times((5, 7), 9)


def test_without_the_package_one_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'edged\[metrics\]'"):
        text()


def test_the_package_is_not_imported_before_it_is_needed():
    code = (
        "import sys, edged.daemon, edged.telemetry.exposition as e; assert e.is_available();"
        "assert not [m for m in sys.modules if m.startswith('prometheus_client.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
