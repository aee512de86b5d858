"""The throw-away process from outside: what it gets, how it ends, what is believed."""

import socket
import time
from pathlib import Path

import numpy as np
import pytest

from converters import sandbox
from converters.errors import ConversionError
from converters.sources.base import SourceJob

SAMPLES = {"x": np.ones((4, 3), "f4")}


def run(tmp_path, monkeypatch, body, timeout_s=60):
    """Run Python code in the place of the worker, with the worker's own surroundings."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "sitter.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setattr(sandbox, "WORKER", "sitter")
    return sandbox.run_source(SourceJob(framework="onnx", source="x"), SAMPLES, timeout_s)


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_the_environment_is_bare(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    body = "import os\nprint(sorted(os.environ), os.getcwd())\nraise SystemExit(3)"
    with pytest.raises(ConversionError, match="exit status 3") as error:
        run(tmp_path, monkeypatch, body)
    assert "SECRET_TOKEN" not in str(error.value)
    assert "OMP_NUM_THREADS" in str(error.value)
    assert str(Path.cwd()) not in str(error.value).split("]")[1]


def test_a_crash_is_told_by_its_signal(tmp_path, monkeypatch):
    body = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
    with pytest.raises(ConversionError, match="was ended by SIGSEGV"):
        run(tmp_path, monkeypatch, body)


def test_too_long_is_ended_with_everything_it_started(tmp_path, monkeypatch):
    mark = tmp_path / "child"
    body = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    with pytest.raises(ConversionError, match="longer than 1 s"):
        run(tmp_path, monkeypatch, body, timeout_s=1)
    pid = int(mark.read_text())
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.01)


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "left no result.json"),
        ("import os, sys\nos.symlink('/etc/hostname', sys.argv[1] + '/result.json')", "left no"),
        (
            "import sys\nopen(sys.argv[1] + '/result.json', 'w').write('{\"error\": 3}')",
            "malformed",
        ),
        ("import sys\nopen(sys.argv[1] + '/result.json', 'w').write('{}')", "left no reference"),
    ],
)
def test_what_it_leaves_is_not_believed(tmp_path, monkeypatch, body, words):
    with pytest.raises(ConversionError, match=words):
        run(tmp_path, monkeypatch, body)


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_the_network_is_cut_where_the_kernel_lets_us(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        body = (
            "import socket\nfrom converters.isolation import isolate\n"
            "reached = isolate(60)\n"
            "try:\n"
            f"    socket.create_connection(('127.0.0.1', {port}), 5)\n"
            "    print('connected;', reached)\n"
            "except OSError:\n"
            "    print('cut off;', reached)\n"
            "raise SystemExit(3)"
        )
        with pytest.raises(ConversionError) as error:
            run(tmp_path, monkeypatch, body)
    text = str(error.value)
    assert ("cut off; own process, no network" in text) or (
        "connected;" in text and "did not allow" in text
    )
