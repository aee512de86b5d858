"""What every test may use: the repository's root, and one named reason for each thing not here."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Set before anything imports numpy. Threads that compute one sum together spin while they wait for each
# other: beside other tests, twenty times as long as one thread alone takes. The converter's own sandbox
# does the same.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Set before anything imports onnxruntime: the wheel otherwise opens a database in the user's cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edged.runtimes.cuda import driver_problem  # noqa: E402
from edged.system import timeslice  # noqa: E402

# The same examples each time: a core run that fails fails for everybody. New ones are looked for by
# `make fuzz`, and by `pytest --hypothesis-profile=search`. How long they take to be drawn is no property of
# ours: on a machine that does something else the first one, which brings imports, takes half a minute.
hypothesis.settings.register_profile(
    "search", deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "core", hypothesis.settings.get_profile("search"), derandomize=True
)
hypothesis.settings.load_profile("core")

# Empty environments of targets are made from the package index: the tests that mean to say so.
os.environ.setdefault("EDGED_TARGET_ENVS", "off")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(autouse=True)
def as_nice_as_before() -> Iterator[None]:
    """A daemon that runs in a test's own thread takes more weight, where it may: no test after it."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    yield
    if os.getpriority(os.PRIO_PROCESS, 0) < nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        timeslice._usual = None


# Thousands of tests are collected, none of which is ever garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was collected out of what the collector looks at, which takes it half a second."""
    gc.enable()
    gc.freeze()


def pytest_configure() -> None:
    """Give each process of ``pytest -n`` a session of its own.

    Loads and trials give way (nice 10 and 19) to what serves beside them: under systemd, to the rest of
    the daemon alone. Linux schedules sessions as it does services, each with its own share; in one
    session they would give way to every other test and hardly ever run.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        with contextlib.suppress(PermissionError):  # it leads a group already
            os.setsid()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name what this machine cannot run."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    problem = driver_problem() if on_gpu else ""
    for item in on_gpu:
        if problem:
            item.add_marker(pytest.mark.skip(reason=f"no NVIDIA GPU here: {problem}"))
