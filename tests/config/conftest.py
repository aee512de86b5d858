"""A configuration directory that a test writes, and what the loader says about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import ConfigProblemsError, Problem, Snapshot, load


class Site:
    """A directory like /etc/edged."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o755, exist_ok=True)

    def write(self, text: str | bytes, name: str = "edged.yaml") -> Path:
        path = self.root / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(0o644)
        return path

    def load(self) -> Snapshot:
        return load(self.root)

    def problems(self) -> tuple[Problem, ...]:
        with pytest.raises(ConfigProblemsError) as caught:
            load(self.root)
        return caught.value.problems

    def problem(self) -> Problem:
        (only,) = self.problems()
        return only


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "etc")
