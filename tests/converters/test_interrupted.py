"""Disk full, Ctrl-C and numbers that are none: one message, a status by kind, nothing half-written."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile

import numpy as np
import pytest
from onnx import helper

from converters.cli import main


def words(recipe, output):
    return [
        *(recipe.source, "-o", str(output), "--samples", recipe.samples),
        *("--name", "m", "--release", "1"),
    ]


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_disk_that_fills_up_leaves_the_old_bundle_and_nothing_else(
    linear, tmp_path, monkeypatch, capsys
):
    recipe = linear()
    (tmp_path / "out").mkdir()
    bundle = tmp_path / "out" / "m.edgb"
    bundle.write_bytes(b"the one from before")
    written = []

    def full(self, info, data):
        written.append(info.filename)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(self, info, data)

    honest = zipfile.ZipFile.writestr
    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert main(words(recipe, bundle)) == 65
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert errors == [f"error: {bundle}: cannot be written: No space left on device"]
    assert written == ["manifest.json", "model.onnx"]
    assert bundle.read_bytes() == b"the one from before"
    assert left_in(tmp_path / "out") == ["m.edgb"]


def test_a_disk_that_is_really_full(linear, tmp_path):
    """A limit on the size of files is what the kernel says where no file system can be made."""
    recipe = linear()
    (tmp_path / "out").mkdir()
    bundle = tmp_path / "out" / "m.edgb"
    code = textwrap.dedent("""
        import resource, signal, sys
        from converters import cli, workflow
        honest = workflow.pack
        def pack(*arguments):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
            return honest(*arguments)
        workflow.pack = pack
        sys.exit(cli.main(sys.argv[1:]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", code, *words(recipe, bundle)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 65, done.stderr
    assert done.stderr.splitlines()[-1] == f"error: {bundle}: cannot be written: File too large"
    assert left_in(tmp_path / "out") == []


def test_ctrl_c_ends_everything_it_started(linear, tmp_path):
    recipe = linear()
    (tmp_path / "out").mkdir()
    bundle = tmp_path / "out" / "m.edgb"
    code = textwrap.dedent(f"""
        import signal, sys
        from converters import cli, process as apart
        # A shell that starts something in the background has it ignore this signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        honest = apart.subprocess.Popen
        def stuck(words, **options):
            process = honest(["sleep", "600"], **options)
            open({str(tmp_path / "pid")!r}, "w").write(str(process.pid))
            wait = process.wait
            def told(*timeout):
                print("started", flush=True) if timeout else None
                return wait(*timeout)
            process.wait = told
            return process
        apart.subprocess.Popen = stuck
        sys.exit(cli.main(sys.argv[1:]))
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words(recipe, bundle)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "started\n"
    child = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "error: interrupted"
    assert "Traceback" not in err
    assert left_in(tmp_path / "out") == []
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{child}")  # noqa: PTH110


@pytest.mark.parametrize(
    ("change", "code", "words_"),
    [
        (lambda _model: None, 0, ""),
        (lambda model: _replace(model, "Erfc"), 65, "Erfc (at "),
        (lambda model: _replace(model, "Sqrt"), 78, "framework itself gives NaN"),
    ],
)
def test_each_kind_of_failure_has_its_status(
    linear, build_linear, tmp_path, capsys, change, code, words_
):
    model = build_linear()
    change(model)
    recipe = linear(model)
    (tmp_path / "out").mkdir()
    assert main([*words(recipe, tmp_path / "out" / "m.edgb"), "--no-report"]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == (code != 0)
    assert words_ in "".join(errors)
    assert left_in(tmp_path / "out") == ([] if code else ["m.edgb"])


def _replace(model, operator):
    """The last step by another one; the rows have numbers below zero."""
    model.graph.node[1].CopyFrom(helper.make_node(operator, ["h"], ["y"]))


def test_samples_with_a_number_too_many_are_told(linear, tmp_path, capsys):
    recipe = linear()
    np.save(tmp_path / "rows.npy", np.ones((10, 4), "f4"))
    assert main(words(recipe, tmp_path / "m.edgb")) == 65
    err = capsys.readouterr().err
    assert err.count("\nerror: ") == 1
    assert not (tmp_path / "m.edgb").exists()


def test_a_killed_converter_leaves_no_process_behind(tmp_path):
    """Nobody ends the framework's process then, so the kernel has to."""
    code = textwrap.dedent("""
        import os, sys, time
        from converters.isolation import isolate
        if os.fork() == 0:
            isolate(1000)
            print(os.getpid(), flush=True)
            time.sleep(600)
        os.wait()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait(60)
    process.stdout.close()
    deadline = time.monotonic() + 30
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(child)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
