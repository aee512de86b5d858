"""What ``edged check`` finds, as the lines that it prints."""

from __future__ import annotations

from pathlib import Path

from edged.commands.verdict import find_problems


def check_config(path: Path, *, with_files: bool) -> tuple[list[str], str]:
    """The problems, a line each, and what is said where there are none."""
    problems, summary = find_problems(path, with_files=with_files)
    return [str(problem) for problem in problems], summary
