"""A directory with a configuration, bundles and keys, as an operator would have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edged.config.load import Snapshot, load
from edged.store.repository import Repository
from tests.bundles import make_bundle
from tests.models import TinyModel, double

UNSIGNED = "trust: {require_signatures: false}\n"


class Site:
    """edged.yaml and what it names, in one directory; the state is in ``state``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "edged.yaml"
        self.state = directory / "state"

    def write(self, body: str, *, trust: str = UNSIGNED) -> Site:
        """Save edged.yaml."""
        self.config.write_text(f"node: test\nstate_dir: {self.state}\n{trust}{body}")
        return self

    def bundle(
        self, name: str, release: int = 1, model: TinyModel | None = None, **more: Any
    ) -> Path:
        """Make NAME-RELEASE.edgb; by default it multiplies by one more than its release."""
        path = self.directory / f"{name}-{release}.edgb"
        tiny = model or double(factor=release + 1)
        return make_bundle(path, tiny, name=name, release=release, **more)

    def load(self) -> Snapshot:
        """Read edged.yaml."""
        return load(self.config)

    def repository(self) -> Repository:
        """The opened store."""
        repository = Repository(self.state)
        repository.open()
        return repository
