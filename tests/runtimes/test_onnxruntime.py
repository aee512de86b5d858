"""What is the ONNX Runtime backend's own: threads asleep, no telemetry, no file but ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edged.errors import DeviceLostError, LoadError, RunError
from edged.manifest import TensorEntry
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxRuntime, clean
from tests.models import OPSET, double, onnx_bytes, with_external_data

ort = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).resolve().parents[2]
X, Y = (TensorEntry(name, "float32", ("batch", 4)) for name in "xy")


def artefact(data: bytes, sidecars: dict[str, bytes] | None = None) -> Artefact:
    return Artefact("tiny", data, (X.spec(),), (Y.spec(),), sidecars or {})


def in_process(code: str, *arguments: str, **env: str) -> dict[str, object]:
    """Run code in a fresh interpreter; it prints one JSON document."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | env,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return json.loads(done.stdout)


PREAMBLE = """
import json, os, sys, time
import numpy as np
from onnx import helper
from edged.manifest import TensorEntry
from edged.runtimes.base import Artefact
from edged.runtimes.onnxruntime import OnnxRuntime, clean
from tests.models import onnx_bytes

def rss_bytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")

def stack(op, n, layers=4):
    "layers of one weight each, n wide, as an artefact and an input"
    conv = op == "Conv"
    tail = (n, 8, 8) if conv else (n,)
    x, y = (TensorEntry(name, "float32", ("batch", *tail)) for name in "xy")
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.random((n, n, 3, 3) if conv else (n, n), dtype="f4") for i in range(layers)}
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    more = {"pads": [1] * 4} if conv else {}
    nodes = [helper.make_node(op, [names[i], f"w{i}"], [names[i + 1]], **more) for i in range(layers)]
    data = onnx_bytes(nodes, [x], [y], weights)
    return Artefact("m", data, (x.spec(),), (y.spec(),)), np.ones((1, *tail), "f4")
"""


class TestThreads:
    CODE = (
        PREAMBLE
        + """
threads, count = int(sys.argv[1]), int(sys.argv[2])
runtime = OnnxRuntime(threads=threads)
made, x = stack("MatMul", 512)
x = np.repeat(x, 64, 0)
before = len(os.listdir("/proc/self/task"))
sessions = [runtime.load(made) for _ in range(count)]
after = len(os.listdir("/proc/self/task"))
sessions[0].run({"x": x})

def others_ns():
    "time that threads other than this one spent on a core"
    total = 0
    for task in os.listdir("/proc/self/task"):
        if task != str(os.getpid()):
            total += int(open(f"/proc/self/task/{task}/schedstat").read().split()[0])
    return total

start = others_ns()
for _ in range(10):
    sessions[0].run({"x": x})
    time.sleep(0.03)
print(json.dumps({"added": after - before, "idle_ms": (others_ns() - start) / 10 / 1e6}))
"""
    )

    @pytest.mark.parametrize(("threads", "count"), [(1, 20), (2, 1), (2, 5)])
    def test_number_and_that_they_sleep(self, threads: int, count: int):
        found = in_process(self.CODE, str(threads), str(count), OPENBLAS_NUM_THREADS="1")
        assert found["added"] == (threads - 1) * count
        # Work itself is some 0.1 ms a run; a pool that spins adds 20 ms, less on a busy machine.
        assert found["idle_ms"] < 2

    def test_control_the_shared_pool_spins(self):
        """Negative control, and the reason for the sessions' own pools."""
        code = self.CODE.replace(
            "runtime = OnnxRuntime(threads=threads)",
            """
import onnxruntime
onnxruntime.set_global_thread_pool_sizes(2, 1)
class Shared(OnnxRuntime):
    def _options(self, backend, artefact):
        options = super()._options(backend, artefact)
        options.use_per_session_threads = False
        return options
runtime = Shared(threads=threads)
""",
        )
        # On a busy machine it gets little time to spin in.
        found = (in_process(code, "2", "1", OPENBLAS_NUM_THREADS="1") for _ in range(10))
        assert any(one["idle_ms"] > 4 for one in found)

    def test_zero_is_one_for_each_core(self):
        assert OnnxRuntime(threads=0)._threads == len(os.sched_getaffinity(0))


class TestTelemetry:
    def test_off_before_the_import(self):
        code = """
import json, os, sys
seen = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch())
from edged.runtimes.onnxruntime import OnnxRuntime, clean
assert "onnxruntime" not in sys.modules
version = OnnxRuntime(threads=1).info().version
print(json.dumps({"seen": seen, "version": version}))
"""
        assert in_process(code) == {"seen": ["1"], "version": ort.__version__}

    @pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
    def test_no_connection_is_attempted(self, tmp_path: Path):
        trace = tmp_path / "trace"
        code = (
            PREAMBLE
            + """
made, x = stack("MatMul", 16)
OnnxRuntime(threads=2).load(made).run({"x": x})
time.sleep(0.5)
"""
        )
        env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        command = ["strace", "-f", "-e", "trace=connect", "-o", str(trace)]
        subprocess.run(
            [*command, sys.executable, "-c", code],
            cwd=ROOT,
            env=env | {"HOME": str(tmp_path)},
            timeout=100,
            check=True,
        )
        assert "AF_INET" not in trace.read_text()


class TestMemory:
    CODE = (
        PREAMBLE
        + """
made, x = stack(sys.argv[1], int(sys.argv[2]))
runtime = OnnxRuntime(threads=1)
small, y = stack("MatMul", 16)
runtime.load(small).run({"x": y})
before = rss_bytes()
session = runtime.load(made)
session.run({"x": x})
grown = rss_bytes() - before
print(json.dumps({"grown": grown, "estimate": runtime.estimate_bytes(made), "file": len(made.data)}))
"""
    )

    @pytest.mark.parametrize(("operator", "width"), [("MatMul", 1024), ("Conv", 320)])
    def test_estimate_is_an_upper_bound(self, operator: str, width: int):
        found = in_process(self.CODE, operator, str(width))
        assert found["file"] > 12 << 20
        assert found["grown"] <= found["estimate"], found
        # Negative control: the file alone would be no bound.
        assert found["grown"] > found["file"], found


class TestExternalData:
    @pytest.mark.hostile("R28 the bytes that were hashed are handed on")
    def test_from_the_bytes_handed_in_or_refused_in_words(self):
        """onnxruntime 1.23 (Python 3.10) cannot take files from memory; it says what to do."""
        model, files = with_external_data()
        runtime = OnnxRuntime(threads=1)
        if hasattr(ort.SessionOptions, "add_external_initializers_from_files_in_memory"):
            model.check(runtime.load(artefact(model.data, files)))
            return
        with pytest.raises(LoadError, match="convert it into one file"):
            runtime.load(artefact(model.data, files))

    def test_never_from_the_working_directory(self, tmp_path: Path, monkeypatch):
        """A file of the right name lies there; the very bytes that were verified are not in it."""
        model, files = with_external_data()
        (tmp_path / "weights.data").write_bytes(files["weights.data"])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(LoadError, match="refuses it") as caught:
            OnnxRuntime(threads=1).load(artefact(model.data))
        assert str(tmp_path) not in caught.value.message


class TestWhatIsNotANumber:
    def test_sequence_output(self):
        graph = helper.make_graph(
            [helper.make_node("SequenceConstruct", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
        )
        data = helper.make_model(
            graph, ir_version=8, opset_imports=[helper.make_opsetid("", OPSET)]
        ).SerializeToString()
        with pytest.raises(LoadError, match="zipmap off"):
            OnnxRuntime(threads=1).load(artefact(data))


def test_a_model_that_wants_more_memory_than_there_is():
    """16-byte input that makes the model allocate much → that request fails, the process lives."""
    i, o = TensorEntry("x", "int64", (2,)), TensorEntry("y", "float32", ("a", "b"))
    data = onnx_bytes([helper.make_node("ConstantOfShape", ["x"], ["y"])], [i], [o])
    session = OnnxRuntime(threads=1).load(Artefact("big", data, (i.spec(),), (o.spec(),)))
    with pytest.raises(RunError, match='model "big" failed'):
        session.run({"x": np.array([1 << 30, 1 << 30])})
    assert session.run({"x": np.array([1, 2])})["y"].shape == (1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : bad", "INVALID_ARGUMENT: bad"),
        ("/onnxruntime_src/core/a.cc:44 failed\n  at once", "(path):44 failed at once"),
        ('open "/root/secret file"', 'open "(path) file"'),
        ("inputs/outputs 1/2", "inputs/outputs 1/2"),
        ("x" * 1000, "x" * 399 + "…"),
    ],
)
@pytest.mark.hostile("R2 an error says our words and the client's own values")
def test_messages_are_short_and_without_paths(text: str, words: str):
    assert clean(ValueError(text)) == words


def test_double_is_exact():
    double().check(OnnxRuntime(threads=2).load(artefact(double().data)))


class TestBind:
    """Nothing is bound where a run would read or write other memory than what was given."""

    def test_an_output_that_is_an_input(self):
        """The package leaves such an output's memory as it was."""
        data = onnx_bytes([helper.make_node("Relu", ["x"], ["y"])], [X], [X, Y])
        made = Artefact("tiny", data, (X.spec(),), (X.spec(), Y.spec()))
        session = OnnxRuntime(threads=1).load(made)
        x = np.ones((2, 4), np.float32)
        assert session.bind({"x": x}, {"x": np.zeros_like(x), "y": np.zeros_like(x)}) is None
        assert session.bind({"x": x}, {"y": np.zeros_like(x)}) is not None
        session.close()

    def test_another_device(self, monkeypatch: pytest.MonkeyPatch):
        """Its memory gets a copy of the inputs when they are bound, and none when it runs."""
        session = OnnxRuntime(threads=1).load(artefact(double().data))
        x = np.ones((2, 4), np.float32)
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(session._session, "get_providers", lambda: providers)
        assert session.bind({"x": x}, {"y": np.zeros_like(x)}) is None
        session.close()


def test_without_what_lies_below_the_package_it_runs_all_the_same(monkeypatch):
    class Public(ort.InferenceSession):
        def __getattribute__(self, name: str):
            if name == "_sess" and sys._getframe(1).f_globals["__name__"].startswith("edged"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    monkeypatch.setattr(ort, "InferenceSession", Public)
    session = OnnxRuntime(threads=1).load(artefact(double().data))
    assert session._call.__self__.__class__ is Public
    double().check(session)


@pytest.mark.parametrize(
    ("words", "on_gpu", "kind"),
    [
        ("700: illegal", True, DeviceLostError),
        ("2: no memory", True, RunError),
        ("700: illegal", False, RunError),
    ],
)
def test_a_gpu_that_is_gone_is_told_from_a_run_that_failed(words: str, on_gpu: bool, kind: type):
    """The words stand behind more than is shown of a message.

    On the processor they can only be another's: of an input that lies on a device.
    """
    session = OnnxRuntime(threads=1).load(artefact(double().data))
    gpu = ["CUDAExecutionProvider"] if on_gpu else []
    session._session = SimpleNamespace(get_providers=lambda: [*gpu, "CPUExecutionProvider"])

    def fail(*_: object) -> None:
        raise RuntimeError("a long way to say it " * 40 + f"CUDA failure {words}")

    session._call = fail
    with pytest.raises(RunError) as caught:
        session.run({"x": np.ones((1, 4), "f4")})
    assert type(caught.value) is kind
