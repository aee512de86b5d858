"""Configurations."""

from __future__ import annotations

from pathlib import Path

from edged.config.load import parse
from edged.config.source import Source
from edged.errors import EdgedError

ROOT = Path(__file__).resolve().parent.parent.parent


def run_config(data: bytes) -> None:
    """A snapshot, or problems of which each has a place."""
    source = Source(Path("/etc/edged"), {"edged.yaml": data})
    try:
        parse(source, source.root)
    except EdgedError as exc:
        problems = getattr(exc, "problems", ())
        assert problems
        assert all(problem.file and problem.message for problem in problems)


def seed_config() -> list[bytes]:
    files = sorted(ROOT.glob("configs/**/*.yaml"))
    cases = sorted((ROOT / "tests/config/cases").glob("**/*.yaml"))
    return [path.read_bytes() for path in [*files, *cases]]
