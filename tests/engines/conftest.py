"""A fake GPU for the building process, and a bundle to build from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edged.engines import process
from edged.engines.bench import Task
from edged.engines.sources import wishes
from edged.manifest import ArtefactEntry
from edged.store.trust_store import TrustStore
from tests.fakes.site import Site
from tests.fakes.tensorrt_site import make_site
from tests.models import double

HALF = ArtefactEntry("onnx", "model.onnx", "float16")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give the process a fake GPU; returns how."""

    def give(**site: Any) -> None:
        folder = tmp_path / f"site-{len(list(tmp_path.glob('site-*')))}"
        monkeypatch.syspath_prepend(make_site(folder, **site))
        # Other tests keep the cores busy, and what runs behind everything else would not end.
        monkeypatch.setattr(process, "_give_way", lambda _pid: None)

    return give


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    site = Site(tmp_path)
    bundle = site.bundle("m", 1, double("float16", 2), artefact=HALF)
    repository = site.repository()
    stored = repository.import_bundle(bundle, TrustStore.from_files([], 1, required=False))
    yield Task("m", stored, wishes(stored.manifest, stored.digest)[0])
    repository.close()
