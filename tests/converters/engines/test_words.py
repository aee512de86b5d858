"""The words of ``build-engine``, and its exit codes."""

from dataclasses import replace

import msgspec
import pytest

from converters import cli
from converters.engines.build import Outcome
from converters.engines.words import describe, parse_axes, wish_from
from converters.errors import ConversionError
from converters.flags import build_parser
from edged.runtimes.engine import BuildOptions
from tests.bundles import make_bundle
from tests.fakes.tensorrt_site import make_site
from tests.models import double
from tests.runtimes.test_engine import engine


def wish(*words):
    return wish_from(build_parser().parse_args(["build-engine", "b.edgb", "-o", "o.edgb", *words]))


def test_flags_become_options():
    assert wish().options == BuildOptions()
    made = wish(
        *("--precision", "int8", "--max-batch", "16", "--opt-batch", "4", "--workspace", "64"),
        *("--builder-optimization-level", "5", "--version-compatible", "--tf32", "--device", "1"),
        *("--hardware-compatibility-level", "ampere_plus", "--axes", "t=1:8:64", "--memory", "9"),
        *("--exact-batch", "1", "--exact-batch", "4", "--dla", "1"),
        *("--timeout", "7", "--release", "3", "--timing-cache", "t"),
    )
    assert made.options == BuildOptions(
        max_batch=16,
        usual_batch=4,
        axes={"t": (1, 8, 64)},
        workspace_bytes=64 << 20,
        level=5,
        is_version_compatible=True,
        hardware="ampere_plus",
        tf32=True,
        exact=(1, 4),
        dla=1,
    )
    assert (made.precision, made.device, made.memory_mib) == ("int8", 1, 9)
    assert (made.timeout_s, made.release, str(made.timing_cache)) == (7, 3, "t")


def test_axes():
    assert parse_axes("h=1:2:3, w=4:4:4") == {"h": (1, 2, 3), "w": (4, 4, 4)}
    assert parse_axes("") == {}


@pytest.mark.parametrize("text", ["h", "h=1:2", "=1:2:3", "h=1:2:x", "h=3:2:1", "h=0:1:2"])
def test_malformed_axes(text):
    with pytest.raises(ConversionError, match=f'--axes "{text}": expected'):
        parse_axes(text)


def test_what_is_said(tmp_path):
    outcome = Outcome("e.engine", "float16", engine().fingerprint, "d" * 64, False, tmp_path)
    lines = "\n".join(describe(outcome, tmp_path / "o.edgb"))
    assert "runs on: Orin (compute capability 8.7), TensorRT 10.3.0, Linux aarch64" in lines
    assert "unsigned: edged-convert sign" in lines
    assert "placed" not in lines
    split = msgspec.structs.replace(outcome.fingerprint, placed={"dla": 5, "gpu": 2})
    lines = describe(replace(outcome, fingerprint=split), tmp_path / "o.edgb")
    assert "placed: 5 layers on the dla, 2 layers on the gpu" in lines


def test_a_machine_without_tensorrt_has_an_exit_code_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(make_site(tmp_path / "site"))
    (tmp_path / "site" / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: not found')")
    bundle = make_bundle(tmp_path / "b.edgb", double())
    words = ["build-engine", str(bundle), "-o", str(tmp_path / "o.edgb")]
    assert cli.main(words) == 69
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: an engine is built on the machine whose GPU is to run it")
    assert "does not load: libnvinfer.so.10: not found" in error
    assert 'pip install "edged[tensorrt]"' in error
    assert not (tmp_path / "o.edgb").exists()
    assert cli.main([*words, "--precision", "int8"]) == 65
