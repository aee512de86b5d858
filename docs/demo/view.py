"""What the demo shows: a live table and progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tally import Tally

COLUMNS = ("model", "sent", "answered", "labels equal", "worst difference", "p50", "p99", "release")
PLAIN_S = 4.0
"""Off a terminal a table this often, so that a log of the demo stays readable."""

SO_FAR = "so far; what is not answered yet is on its way:"
"""Above each table but the last: devices go on publishing while it is made."""


class View:
    """Prints the story."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
        self.is_live = self.console.is_terminal

    def title(self, text: str) -> None:
        """A new part of the story."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def line(self, text: str) -> None:
        """One fact."""
        self.console.print(f"  {text}", markup=False)

    def verdict(self, text: str, *, is_good: bool) -> None:
        """One check."""
        mark = "[green]ok  [/green]" if is_good else "[red]FAIL[/red]"
        self.console.print(f"  {mark}", end=" ")
        self.console.print(text, markup=False)

    def progress(self, total: int) -> tuple[Progress, Callable[[str], None]]:
        """A progress bar of ``total`` steps and how to say that one is done."""
        bar = Progress(
            TextColumn("  {task.description:24}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.is_live,
        )
        task = bar.add_task("", total=total)
        started, done = time.monotonic(), []

        def step(text: str) -> None:
            done.append(text)
            bar.update(task, advance=1, description=text)
            seconds = time.monotonic() - started
            bar.console.print(f"  [{len(done)}/{total}] {text} ({seconds:.1f} s)", markup=False)

        return bar, step

    def watch(self, tally: Tally, until: Callable[[], object], seconds: float) -> bool:
        """Show the numbers until something happens.

        Returns:
            Whether it happened before the time was over.
        """
        end, shown = time.monotonic() + seconds, time.monotonic()
        live = Live(console=self.console, auto_refresh=False, transient=True)
        with live if self.is_live else _Nothing():
            while not (happened := bool(until())) and time.monotonic() < end:
                time.sleep(0.1)
                if self.is_live:
                    live.update(table(tally, SO_FAR), refresh=True)
                elif time.monotonic() - shown >= PLAIN_S:
                    shown = time.monotonic()
                    self.line(SO_FAR)
                    for line in plain(tally):
                        self.line(line)
        return happened


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exception: object) -> None:
        return None


def rows(tally: Tally) -> list[list[str]]:
    """The table's cells."""
    found = []
    for name, model in tally.models.items():
        p50, p99 = model.percentile_ms(0.5), model.percentile_ms(0.99)
        found.append(
            [
                name,
                str(model.sent),
                str(model.answered),
                str(model.labels_equal),
                f"{model.worst:.1e}" if model.answered else "-",
                f"{p50:.2f} ms" if p50 is not None else "-",
                f"{p99:.2f} ms" if p99 is not None else "-",
                " ".join(f"{release}:{count}" for release, count in sorted(model.releases.items())),
            ]
        )
    return found


def table(tally: Tally, title: str) -> Table:
    """For a terminal."""
    made = Table(
        *COLUMNS, title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 2)
    )
    for cells in rows(tally):
        made.add_row(*cells)
    return made


def plain(tally: Tally) -> list[str]:
    """The same in columns of plain text."""
    cells = [list(COLUMNS), *rows(tally)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(COLUMNS))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return [line.rstrip() for line in lines]
