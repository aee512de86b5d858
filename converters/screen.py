"""What people see: steps, tables and errors; rich on a terminal, plain lines anywhere else."""

# rich is imported only for a terminal.
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from converters.batch.job import Outcome
    from converters.show import Table
    from converters.workflow import Report


class Screen:
    """Writes results to stdout and steps and errors to stderr."""

    def line(self, text: str) -> None:
        """One line of result."""
        print(shown(text))

    def error(self, message: str, *more: str) -> None:
        """One error, in the form that editors and people find; and lines that belong to it."""
        print(f"error: {shown(message)}", *map(shown, more), sep="\n", file=sys.stderr)

    @contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Show what is being done: a spinner on a terminal, a line a step elsewhere."""
        if not sys.stderr.isatty():
            yield lambda name: print(f"{shown(name)} …", file=sys.stderr, flush=True)
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:

            def finish_last() -> None:
                for task in progress.task_ids[-1:]:
                    progress.update(task, total=1, completed=1)

            def step(name: str) -> None:
                finish_last()
                progress.add_task(_plain(name), total=None)

            yield step
            finish_last()

    @contextmanager
    def batch(self) -> Iterator[BatchLines]:
        """Show how a batch goes: a line a model, on a terminal from its begin, else at its end."""
        if not sys.stderr.isatty():
            yield BatchLines(None)
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield BatchLines(progress)

    def show_report(self, report: Report) -> None:
        """What a conversion did."""
        from converters.show import describe_report

        self.show_tables(describe_report(report))

    def show_tables(self, tables: Sequence[Table]) -> None:
        """Tables with a title each."""
        tables = [table.with_cells(shown) for table in tables]
        if not sys.stdout.isatty():
            for table in tables:
                print(table.plain())
            return
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        console = Console()
        for table in tables:
            drawn = RichTable(title=table.title, title_justify="left", show_header=bool(table.head))
            for name in table.head or [""] * max(len(row) for row in table.rows):
                drawn.add_column(name)
            for row in table.rows:
                drawn.add_row(*(Text(cell) for cell in row))
            console.print(drawn)


class BatchLines:
    """One line a model: what it is doing, then what became of it.

    Args:
        progress: draws on a terminal; None writes plain lines.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._ran: set[str] = set()

    @property
    def ran(self) -> frozenset[str]:
        """The models that were started."""
        return frozenset(self._ran)

    def started(self, name: str) -> None:
        """A model begins."""
        self._ran.add(name)
        if self._progress is not None:
            self._tasks[name] = self._progress.add_task(_plain(name), total=None)

    def step(self, name: str, step: str) -> None:
        """A step of a running model begins."""
        if self._progress is not None:
            self._progress.update(self._tasks[name], description=_plain(f"{name}: {step}"))

    def ended(self, outcome: Outcome, count: int, total: int) -> None:
        """A model has ended."""
        from converters.batch.run import describe_outcome

        line = describe_outcome(outcome, count, total)
        if self._progress is None:
            print(shown(line), file=sys.stderr, flush=True)
            return
        task = self._tasks[outcome.name]
        self._progress.update(task, description=_plain(line), total=1, completed=1)


def _plain(text: str) -> str:
    """Text for rich that is no markup."""
    return shown(text).replace("[", r"\[")


def shown(text: str) -> str:
    """Text on one line, with what a terminal would obey, hide or fail to write as escapes.

    Names of files, tensors and columns come from whoever made the model.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
