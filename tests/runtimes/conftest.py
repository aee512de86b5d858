"""Every runtime that imports here, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.runtimes.base import Runtime
from edged.runtimes.registry import create_runtime
from tests.fakes.packages import write_example_runtime
from tests.runtimes.contract import PARAMS


@pytest.fixture(scope="session")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the example package, as pip would have left it there."""
    folder = tmp_path_factory.mktemp("packages")
    write_example_runtime(folder)
    return folder


@pytest.fixture
def example(example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where packages are found; for one test, since others count what is installed."""
    monkeypatch.syspath_prepend(example_folder)
    return example_folder


@pytest.fixture(params=PARAMS)
def runtime(request: pytest.FixtureRequest, example: Path) -> Runtime:
    """Each runtime that imports here."""
    del example
    made = create_runtime(request.param, threads=2, is_expendable=True)
    if problem := made.info().problem:
        pytest.skip(problem)
    return made
