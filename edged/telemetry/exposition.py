"""Figures as the text that Prometheus and its relatives read; the only file that knows their form.

Decides how a figure is written, never what it is: families come in as plain numbers. The package
that writes the text costs 50 ms and 12 MB, so it is imported with the first scrape.
"""

from __future__ import annotations

import asyncio
import enum
import importlib.util
import operator
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edged.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

MISSING = (
    "metrics need the package prometheus-client, which is not installed; "
    "run: pip install 'edged[metrics]'"
)
CELLS = 65
"""A time goes to the cell of its bit length, so that counting it needs no search: cell k holds
those above 2^(k-1) and up to 2^k nanoseconds. 64 bits are 584 years, so no time is outside."""
_LOWEST, _HIGHEST = 13, 34
"""Histograms show the bounds from 2^13 ns (8 us: no run is shorter) to 2^34 ns (17 s: longer than a
request waits by default). Between them each bound is twice the one before."""
_EOF = b"# EOF\n"


class Kind(enum.Enum):
    """What a figure is."""

    COUNTER = "counter"
    FLAG = "0 or 1"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured under one name.

    Args:
        name: without the suffix that its kind adds (``_total``, ``_info``).
        kind: of it.
        help: one sentence.
        labels: their names.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name that one asks Prometheus for; histograms have several."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return self.name + suffix


@dataclass(frozen=True, slots=True)
class Times:
    """A histogram: how many times fell into each cell, and their sum, in nanoseconds."""

    cells: Sequence[int]
    sum_ns: int

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Upper bounds in seconds, each with the number of times up to it."""
        total = sum(self.cells[:_LOWEST])
        for bits in range(_LOWEST, _HIGHEST + 1):
            total += self.cells[bits]
            yield repr(2**bits / 1e9), total
        yield "+Inf", total + sum(self.cells[_HIGHEST + 1 :])


Value = int | float | Times


@dataclass(frozen=True, slots=True)
class Family:
    """A figure with its values, one for each combination of labels."""

    figure: Figure
    samples: dict[tuple[str, ...], Value] = field(default_factory=dict)


def merged(kind: Kind, first: Value, second: Value) -> Value:
    """Two values of one series as one: a sum, but for what is only true or not."""
    if isinstance(first, Times) and isinstance(second, Times):
        cells = tuple(map(operator.add, first.cells, second.cells))
        return Times(cells, first.sum_ns + second.sum_ns)
    assert not isinstance(first, Times)
    assert not isinstance(second, Times)
    return max(first, second) if kind in (Kind.FLAG, Kind.INFO) else first + second


def is_available() -> bool:
    """Whether the package that writes the text is installed; imports nothing."""
    return importlib.util.find_spec("prometheus_client") is not None


async def render(families: Iterable[Family], accept: str = "") -> tuple[bytes, str]:
    """The text, and its content type.

    Other work of the loop has its turn after each family: all at once would hold it up.

    Args:
        families: what to write.
        accept: the reader's Accept header; OpenMetrics only for those who ask for it.

    Raises:
        ConfigError: the package is not installed.
    """
    if not is_available():
        raise ConfigError(MISSING)
    choose = await asyncio.to_thread(_import_choice)
    encode, content_type = choose(accept)
    parts = [part async for part in _encoded(families, encode)]
    if any(part.endswith(_EOF) for part in parts):  # OpenMetrics ends with one line of its own
        parts = [*(part.removesuffix(_EOF) for part in parts), _EOF]
    return b"".join(parts), content_type


async def _encoded(families: Iterable[Family], encode: Any) -> AsyncIterator[bytes]:
    for family in families:
        yield encode(_collector(family))
        await asyncio.sleep(0)


def _import_choice() -> Any:
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - see above

    return choose_encoder


def _collector(family: Family) -> Collector:
    from prometheus_client import core  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    figure = family.figure
    kinds: dict[Kind, Any] = {
        Kind.COUNTER: core.CounterMetricFamily,
        Kind.FLAG: core.GaugeMetricFamily,
        Kind.GAUGE: core.GaugeMetricFamily,
        Kind.HISTOGRAM: core.HistogramMetricFamily,
        Kind.INFO: core.GaugeMetricFamily,
    }
    name = figure.shown if figure.kind is Kind.INFO else figure.name
    made = kinds[figure.kind](name, figure.help, labels=figure.labels)
    for labels, value in family.samples.items():
        if isinstance(value, Times):
            made.add_metric(labels, list(value.buckets()), value.sum_ns / 1e9)
        else:
            made.add_metric(labels, value)

    class One(Collector):
        def collect(self) -> Iterator[Any]:
            yield made

    return One()
