"""What the building process leaves is data that may be wrong, and is told so by name."""

import msgspec
import numpy as np
import pytest

from converters.engines import child
from converters.errors import EngineError
from edged.engines.job import BuildJob
from tests.models import double
from tests.runtimes.test_engine import engine

MODEL = b"onnx"
JOB = BuildJob(
    model="m",
    inputs=double().inputs,
    outputs=double().outputs,
    options=engine().fingerprint.options,
    chunk=1,
)


def sitter(tmp_path, monkeypatch, files):
    """Leave these files in the place of the worker."""
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "sitter.py").write_text(
        "import shutil, sys\n"
        f"for name in {list(files)!r}:\n"
        f"    shutil.copy({str(tmp_path)!r} + '/' + name, sys.argv[1])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(child, "WORKER", "sitter")
    rows = {"x": np.zeros((1, 4), "f4")}
    return child.build_apart(JOB, MODEL, rows, b"", precision="float16", timeout_s=60)


def without(name):
    """An engine file whose fingerprint has no such field."""
    data = engine().encode()
    length = int.from_bytes(data[12:16], "little")
    head = msgspec.json.decode(data[16 : 16 + length])
    (head if name in head else head["host"]).pop(name)
    fresh = msgspec.json.encode(head)
    return b"".join([data[:12], len(fresh).to_bytes(4, "little"), fresh, data[16 + length :]])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "left no result.json"),
        ({"result.json": b'{"error": 1}'}, "malformed result"),
        ({"result.json": b"{}"}, "left no engine"),
        ({"result.json": b"{}", "engine": b"a plan"}, "no engine: this is no engine file"),
        ({"result.json": b"{}", "engine": engine().encode()[:-1]}, "no engine: .*cut short"),
        ({"result.json": b"{}", "engine": without("plan_sha256")}, "missing .*`plan_sha256`"),
        ({"result.json": b"{}", "engine": without("driver")}, "missing .*`driver`"),
    ],
)
def test_what_it_leaves_is_not_believed(tmp_path, monkeypatch, files, words):
    with pytest.raises(EngineError, match=words):
        sitter(tmp_path, monkeypatch, files)
