"""Public clients that do not install beside ours: KServe's, and Triton's perf_analyzer.

``EDGED_KSERVE`` names a Python that has kserve: it brings 425 MB along, 126 of them for a client of
Kubernetes, so no environment of ours has it. ``EDGED_PERF_ANALYZER`` names the other program where
``make test-all`` did not install it (``.ci/perf-analyzer``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.stand import OipDaemon, free_port, serving

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
_WAIT_S = 100
_TRIES = 3
_REQUESTS = 100
_ANALYZED = {
    "binary": ("-m", "sorter"),
    # What it makes up for a BOOL is no byte of one.
    "two rows of every number type": ("-m", "echo", "-b", "2", "--input-data", "zero"),
}
_OVER_HTTP = {
    "shared memory": ("-m", "sorter", "--shared-memory", "system", "--output-shared-memory-size", "64"),
}  # fmt: skip
_OVER_GRPC = {
    "a stream": ("-m", "sorter", "--streaming"),
    "several at once": ("-m", "sorter", "-a", "--concurrency-range", "4"),
}


def kserve(script: str, address: str) -> None:
    """Run one of the programs that ask with KServe's clients."""
    done = subprocess.run(
        [os.environ["EDGED_KSERVE"], str(HERE / script), address],
        capture_output=True, text=True, timeout=_WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture
def _has_kserve() -> None:
    if not os.environ.get("EDGED_KSERVE"):
        pytest.skip("kserve is not installed: EDGED_KSERVE names a Python that has it")


@pytest.mark.usefixtures("_has_kserve")
def test_kserve_over_the_unix_socket(tmp_path: Path) -> None:
    with serving(tmp_path, f"path: {tmp_path}/h", f"path: {tmp_path}/g"):
        kserve("kserve_rest.py", f"{tmp_path}/h")
        kserve("kserve_grpc.py", f"unix:{tmp_path}/g")


@pytest.mark.usefixtures("_has_kserve")
def test_kserve_over_tcp(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, grpc=f"port: {port}, insecure: true"):
        kserve("kserve_grpc.py", f"127.0.0.1:{port}")


def perf_analyzer(daemon: OipDaemon, command: list[str]) -> str:
    """What it says of its requests.

    It loses count where they are done before it has begun to count, as on a busy machine, and then
    waits for ever (one run in 700 beside other work). It is asked again if that is what it does:
    the daemon has answered every one.
    """
    for _ in range(_TRIES):
        before = answered(daemon)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                said, _rest = process.communicate(timeout=_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _rest = process.communicate()
                assert answered(daemon) - before >= _REQUESTS, f"{command} hangs:\n{said}"
                continue
        assert process.returncode == 0, f"{command}:\n{said}"
        return said
    pytest.fail(f"{command} lost count {_TRIES} times")


def answered(daemon: OipDaemon) -> int:
    """Requests that were answered, and not with an error."""
    return sum(each["requests"] - each["failures"] for each in daemon.status()["releases"])


# Seven runs, a start, and one that lost count: together more than the usual limit on a busy machine.
@pytest.mark.timeout(10 * _WAIT_S)
def test_perf_analyzer(tmp_path: Path) -> None:
    beside = Path(sys.prefix, "share", "edged-perf-analyzer", "perf_analyzer")
    program = os.environ.get("EDGED_PERF_ANALYZER") or (str(beside) if beside.exists() else None)
    if not program:
        pytest.skip("perf_analyzer is not installed: EDGED_PERF_ANALYZER names it")
    place = "port: {}, insecure: true, server_name: triton"
    http, grpc = free_port(), free_port()
    ways = (
        (http, "http", {**_ANALYZED, **_OVER_HTTP}),
        (grpc, "grpc", {**_ANALYZED, **_OVER_GRPC}),
    )
    with serving(tmp_path, place.format(http), place.format(grpc)) as daemon:
        for port, way, asked in ways:
            for what, options in asked.items():
                where = ("-i", way, "-u", f"127.0.0.1:{port}", "--request-count", str(_REQUESTS))
                said = perf_analyzer(daemon, [program, *options, *where])
                assert f"Request count: {_REQUESTS}\n" in said, f"{what} over {way}: {said}"
