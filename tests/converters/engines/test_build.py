"""From a bundle to the same bundle with an engine, through a real process over a fake GPU."""

import zipfile

import msgspec
import numpy as np
import pytest

from converters import convert
from converters.engines.build import Wish, _keep_timing, add, add_engine, choose_source, name_of
from converters.errors import ConversionError, EngineError, NoDeviceError, ParityError
from converters.recipe import make_recipe
from converters.show import describe_bundle
from converters.verify import verify_bundle
from edged.errors import BundleError
from edged.manifest import ArtefactEntry, Golden
from edged.runtimes.engine import BuildOptions, decode
from edged.store.bundle import read_manifest
from edged.store.keys import generate_key
from tests.bundles import make_bundle, make_manifest
from tests.converters.precision.test_quantize import residual
from tests.fakes.tensorrt_site import make_site
from tests.models import double
from tests.runtimes.test_engine import engine

HALF = ArtefactEntry("onnx", "model.onnx", "float16")


@pytest.fixture
def gpu(tmp_path, monkeypatch):
    """Give the child a fake GPU; returns how."""

    def give(**site):
        monkeypatch.syspath_prepend(make_site(tmp_path / "site", **site))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return give


@pytest.fixture
def half(tmp_path):
    """A bundle of a float16 model with eleven golden rows."""
    path = tmp_path / "half.edgb"
    return make_bundle(path, double("float16"), artefact=HALF, golden_rows=11)


def build(bundle, tmp_path, key=None, **wish):
    return add_engine(bundle, tmp_path / "out.edgb", Wish(**wish), key)


def nothing_written(tmp_path):
    names = {entry.name for entry in tmp_path.iterdir()}
    return not [name for name in names if "out.edgb" in name] and not (tmp_path / "cache").exists()


def test_an_engine_becomes_an_artefact_of_a_signed_bundle(gpu, half, tmp_path):
    gpu()
    private, public = generate_key(str(tmp_path / "signer"))
    outcome = build(half, tmp_path, private, options=BuildOptions(max_batch=4), release=2)
    data, manifest, signatures = read_manifest(tmp_path / "out.edgb")
    assert (manifest.release, outcome.is_signed) == (2, True)
    assert "signature: ok" in verify_bundle(tmp_path / "out.edgb", [public], run=True)[1]
    model, built = manifest.artefacts
    assert (model, built.runtime, built.precision) == (HALF, "tensorrt", "float16")
    assert manifest.members[-1].type == "tensorrt"
    kept = decode(zipfile.ZipFile(tmp_path / "out.edgb").read(built.file)).fingerprint
    assert kept == outcome.fingerprint
    assert (kept.host.gpu, kept.host.driver, kept.built) == ("Fake", "580.159", {"HALF": 1})
    assert kept.parity == {"y": 0.0}
    assert kept.options.max_batch == 4, "eleven rows went in runs of four"
    assert manifest.provenance["engines"][built.file]["host"]["compute_capability"] == "8.7"
    shown = "\n".join(table.plain() for table in describe_bundle(data, manifest, signatures))
    assert "float16 tensorrt" in shown
    assert outcome.timing_cache.read_bytes() == b"timed "


@pytest.mark.slow
def test_the_next_build_begins_with_what_was_timed_and_replaces_the_engine(gpu, half, tmp_path):
    gpu(release="8.6")
    file = tmp_path / "mine.timing"
    first = build(half, tmp_path, timing_cache=file)
    again = add_engine(tmp_path / "out.edgb", tmp_path / "out.edgb", Wish(timing_cache=file))
    assert file.read_bytes() == b"timed timed "
    assert again.fingerprint.timing_cache_sha256
    assert first.file == again.file
    manifest = read_manifest(tmp_path / "out.edgb")[1]
    assert [entry.file for entry in manifest.artefacts] == ["model.onnx", first.file]
    assert list(manifest.provenance["engines"]) == [first.file]


def test_timings_that_cannot_be_kept_are_no_reason_to_fail(tmp_path):
    (tmp_path / "file").write_text("")
    _keep_timing(tmp_path / "file" / "timing", b"timed")
    _keep_timing(tmp_path / "empty", b"")
    _keep_timing(tmp_path / "new" / "timing", b"timed")
    assert (tmp_path / "new" / "timing").read_bytes() == b"timed"
    assert not (tmp_path / "empty").exists()


def test_a_timing_cache_that_cannot_be_read(half, tmp_path):
    with pytest.raises(ConversionError, match=r"--timing-cache .*: Is a directory"):
        build(half, tmp_path, timing_cache=tmp_path)


def test_without_a_gpu_it_says_what_is_missing_and_writes_nothing(half, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(make_site(tmp_path / "site"))
    (tmp_path / "site" / "tensorrt.py").write_text("raise ModuleNotFoundError('tensorrt')")
    with pytest.raises(NoDeviceError, match=r"whose GPU is to run it.*TensorRT is not installed"):
        build(half, tmp_path)
    assert nothing_written(tmp_path)


WRONG = """
honest = made.IExecutionContext._work
def work(self, shapes, addresses):
    honest(self, shapes, addresses)
    place = addresses["y"]
    GPU.find(place, 2)[:] = np.float16(99).tobytes()
made.IExecutionContext._work = work
"""
IN_BUILD = "made.Builder.build_serialized_network = lambda self, network, config: "
REFUSED = {
    "no engine": ({"fault": "build"}, {}, EngineError, "Could not find any implementation"),
    "other precision": ({"fault": "float32"}, {}, EngineError, "asks for float16; .*built no layer"),
    "other numbers": ({"extra": WRONG}, {}, ParityError, r"engine is wrong: output \"y\": .* 11 go"),
    "no driver told": ({"driver": ""}, {}, EngineError, "fingerprint lacks driver"),
    "layers not told": (
        {"extra": "made.EngineInspector.get_engine_information = lambda self, format: '{}'"},
        {}, EngineError, "fingerprint lacks built",
    ),
    "crash": (
        {"extra": IN_BUILD + "__import__('os').kill(__import__('os').getpid(), 11)"},
        {}, EngineError, r"build process was ended by SIGSEGV \(TensorRT or the driver fell over",
    ),
    "too long": (
        {"extra": IN_BUILD + "__import__('time').sleep(600)"},
        {"timeout_s": 1}, EngineError, r"build took longer than 1 s \(--timeout\)",
    ),
    "out of memory": (
        {"extra": IN_BUILD + "bytearray(3 << 30)"},
        {"memory_mib": 2048}, EngineError, r"more memory than .* 2048 MiB \(--memory\)",
    ),
    "the GPU's memory": (
        {"extra": "GPU.fail['create_execution_context'] = 2"},
        {}, EngineError, "gives no context: out of memory",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_what_goes_wrong_is_told_by_name_and_nothing_is_written(gpu, half, tmp_path, case):
    site, wish, kind, words = REFUSED[case]
    gpu(**site)
    with pytest.raises(kind, match=words):
        build(half, tmp_path, **wish)
    assert nothing_written(tmp_path)


def test_the_child_has_no_key_and_no_secret(gpu, half, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/cuda")
    private, _ = generate_key(str(tmp_path / "signer"))
    watched = "sorted({'SECRET_TOKEN', 'LD_LIBRARY_PATH'} & set(os.environ))"
    listed = "sorted(name for name in os.listdir() if name[0] != '.')"
    gpu(extra=f"import os; raise RuntimeError({watched}, {listed})")
    with pytest.raises(EngineError) as error:
        build(half, tmp_path, private)
    files = ["golden.safetensors", "home", "job.json", "log", "model.onnx", "step"]
    assert f"(['LD_LIBRARY_PATH'], {files})" in error.value.message


def test_the_kernel_ends_it_with_the_one_that_started_it(gpu, half, tmp_path):
    ask = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n), 0, 0, 0)"
    gpu(extra=f"{ask}; raise RuntimeError('signal', n.value)")
    with pytest.raises(EngineError, match=r"\('signal', 9\)"):
        build(half, tmp_path)


class TestWhatItIsBuiltFrom:
    def manifest(self, *entries, types=()):
        made, _ = make_manifest(double())
        members = tuple(
            msgspec.structs.replace(made.members[0], name=entry.file, type=kind)
            for entry, kind in zip(entries, types or ["onnx"] * len(entries), strict=True)
        )
        return msgspec.structs.replace(made, artefacts=entries, members=members)

    def test_the_only_one(self):
        manifest = self.manifest(HALF)
        assert choose_source(manifest, "") == choose_source(manifest, "float16") == HALF

    def test_of_several_the_user_chooses(self):
        manifest = self.manifest(HALF, ArtefactEntry("onnx", "b.onnx", "float32"))
        with pytest.raises(ConversionError, match="has float16, float32: say which one, --prec"):
            choose_source(manifest, "")
        assert choose_source(manifest, "float32").file == "b.onnx"

    def test_int8_is_tensorrts_own_and_never_the_cpus(self):
        low = ArtefactEntry("onnx", "low.onnx", "int8")
        own = ArtefactEntry("tensorrt", "own.onnx", "int8")
        assert choose_source(self.manifest(low, own), "int8") == own
        with pytest.raises(ConversionError, match=r"int8 file is for CPUs, .*--for jetpack6"):
            choose_source(self.manifest(low), "int8")
        with pytest.raises(ConversionError, match="no ONNX file that TensorRT could take"):
            choose_source(self.manifest(low), "")

    def test_an_engine_is_no_model_to_build_from(self):
        built = ArtefactEntry("tensorrt", "a.engine", "int8")
        manifest = self.manifest(HALF, built, types=["onnx", "tensorrt"])
        assert choose_source(manifest, "") == HALF
        with pytest.raises(ConversionError, match="has no int8 model"):
            choose_source(manifest, "int8")

    def test_weights_in_a_second_file(self):
        side = ArtefactEntry("tensorrt", "w.data", "int8")
        manifest = self.manifest(HALF, side, types=["onnx", "onnx-data"])
        with pytest.raises(ConversionError, match="weights in a second file"):
            choose_source(manifest, "")

    def test_without_golden_rows_nothing_is_built(self, tmp_path):
        path = make_bundle(tmp_path / "b.edgb", double(), golden=False)
        with pytest.raises(ConversionError, match="no golden samples"):
            build(path, tmp_path)

    def test_a_bundle_that_was_changed(self, half, tmp_path):
        data = bytearray(half.read_bytes())
        data[-400] ^= 1
        half.write_bytes(data)
        with pytest.raises(BundleError):
            build(half, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("release", ["8.6", "10.3", "10.16", "11.4"])
def test_from_a_model_to_an_int8_engine(gpu, tmp_path, release):
    """Convert for a Jetson, then build from the symmetric file; the engine keeps to its answers."""
    model, rows = residual()
    (tmp_path / "net.onnx").write_bytes(model)
    np.savez(tmp_path / "rows.npz", x=rows)
    fields = {
        "source": str(tmp_path / "net.onnx"), "name": "net", "release": 1, "target": "jetpack6",
        "samples": str(tmp_path / "rows.npz"), "calibration": str(tmp_path / "rows.npz"),
        "precision": "float32,int8", "max_accuracy_drop": 0.2,
    }  # fmt: skip
    convert(make_recipe(fields), tmp_path / "net.edgb", empty_env="off")
    gpu(release=release)
    outcome = build(tmp_path / "net.edgb", tmp_path, precision="int8")
    assert outcome.fingerprint.built["INT8"] == 6, "three weights and three inputs"
    assert ("INT8" in outcome.fingerprint.flags) == (release == "8.6")
    manifest = read_manifest(tmp_path / "out.edgb")[1]
    assert [(a.runtime, a.precision) for a in manifest.artefacts] == [
        ("onnx", "float32"), ("onnx", "int8"), ("tensorrt", "int8"), ("tensorrt", "int8"),
    ]  # fmt: skip
    source, built = manifest.artefacts[2:]
    assert built.golden == source.golden
    assert manifest.provenance["engines"][built.file]["model"] == source.file
    lines = verify_bundle(tmp_path / "out.edgb", [], run=True)
    assert [line.split('"')[0] for line in lines[-3:]] == [
        "golden float32 ", "golden int8 ", "golden int8 tensorrt ",
    ]  # fmt: skip


def test_an_engine_shares_the_answers_of_the_model_it_is_of():
    manifest, members = make_manifest(double())
    own = Golden("golden-int8-tensorrt.safetensors", 2, {})
    source = ArtefactEntry("tensorrt", "own.onnx", "int8", golden=own)
    made, files = add(manifest, members, source, "e.engine", engine())
    assert made.artefacts[-1].golden == own
    assert files["e.engine"] == engine().encode()


def test_a_device_of_another_kind_has_an_engine_of_its_own():
    one = engine().fingerprint
    other = msgspec.structs.replace(one, host=msgspec.structs.replace(one.host, driver="541"))
    assert name_of("int8", one) != name_of("int8", other)
    assert name_of("int8", one) == name_of("int8", msgspec.structs.replace(one, seconds=9.0))
    assert name_of("int8", one).startswith("model-int8-sm87-")
