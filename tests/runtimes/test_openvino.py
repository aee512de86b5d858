"""OpenVINO: ONNX Runtime's answers, in float32 and not in what the package would choose."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edged.errors import LoadError
from edged.manifest import TensorEntry
from edged.runtimes import openvino
from edged.runtimes.base import Artefact
from edged.runtimes.openvino import OpenVinoRuntime, OpenVinoSession
from edged.runtimes.openvino_device import TARGETS
from edged.tensors import TensorSpec
from tests.models import (
    TinyModel,
    classifier,
    double,
    onnx_bytes,
    with_external_data,
    with_function,
)

pytestmark = pytest.mark.frameworks

IR = b"""<?xml version="1.0"?>
<net name="double" version="11">
 <layers>
  <layer id="0" name="x" type="Parameter" version="opset1">
   <data shape="?,4" element_type="f32"/>
   <output><port id="0" precision="FP32" names="x"><dim>-1</dim><dim>4</dim></port></output>
  </layer>
  <layer id="1" name="k" type="Const" version="opset1">
   <data element_type="f32" shape="" offset="0" size="4"/>
   <output><port id="0" precision="FP32" names="k"/></output>
  </layer>
  <layer id="2" name="y" type="Multiply" version="opset1">
   <data auto_broadcast="numpy"/>
   <input>
    <port id="0" precision="FP32"><dim>-1</dim><dim>4</dim></port><port id="1" precision="FP32"/>
   </input>
   <output><port id="2" precision="FP32" names="y"><dim>-1</dim><dim>4</dim></port></output>
  </layer>
  <layer id="3" name="result" type="Result" version="opset1" output_names="y">
   <input><port id="0" precision="FP32"><dim>-1</dim><dim>4</dim></port></input>
  </layer>
 </layers>
 <edges>
  <edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
  <edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
  <edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
 </edges>
</net>
"""
"""``y = x * k`` in OpenVINO's own form; k is the four bytes of the weights."""
WEIGHTS = np.array(2, "<f4").tobytes()


def artefact(model: TinyModel, **changes: object) -> Artefact:
    made = Artefact(
        model.name,
        model.data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )
    return replace(made, **changes)


def load(model: TinyModel, threads: int = 2, **changes: object) -> OpenVinoSession:
    return OpenVinoRuntime(threads=threads).load(artefact(model, **changes))


def small_cnn(*, quantised: bool) -> TinyModel:
    """Two convolutions and a product; with QDQ, inputs uint8 and weights int8 per channel."""
    rng = np.random.default_rng(3)
    x = TensorEntry("x", "float32", ("batch", 3, 16, 16))
    y = TensorEntry("y", "float32", ("batch", 10))
    shapes = {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), "w3": (16, 10)}
    weights = {name: rng.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}
    nodes, constants = [], {}
    names = {name: name for name in shapes}
    if quantised:
        constants |= {"s": np.float32(8 / 255), "z": np.uint8(128)}
        for name, array in weights.items():
            axis = 1 if name == "w3" else 0
            top = np.abs(array).max(tuple(n for n in range(array.ndim) if n != axis))
            scale = (top / 127).astype("f4")
            wide = scale.reshape([-1 if n == axis else 1 for n in range(array.ndim)])
            constants[f"{name}_q"] = np.round(array / wide).astype("i1")
            constants[f"{name}_s"], constants[f"{name}_z"] = scale, np.zeros(len(scale), "i1")
            parts = [f"{name}_q", f"{name}_s", f"{name}_z"]
            names[name] = f"{name}_d"
            nodes.append(helper.make_node("DequantizeLinear", parts, [f"{name}_d"], axis=axis))
    else:
        constants |= weights

    def rounded(name: str) -> str:
        if not quantised:
            return name
        nodes.append(helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_d"]))
        return f"{name}_d"

    nodes.append(helper.make_node("Conv", [rounded("x"), names["w1"]], ["a"]))
    nodes.append(helper.make_node("Relu", ["a"], ["b"]))
    nodes.append(helper.make_node("Conv", [rounded("b"), names["w2"]], ["c"]))
    nodes.append(helper.make_node("ReduceMean", ["c"], ["d"], axes=[2, 3], keepdims=0))
    nodes.append(helper.make_node("MatMul", [rounded("d"), names["w3"]], ["y"]))
    return TinyModel(
        "cnn",
        onnx_bytes(nodes, [x], [y], constants),
        (x,),
        (y,),
        lambda inputs: inputs,
        lambda rows: {"x": np.random.default_rng(rows).normal(size=(rows, 3, 16, 16)).astype("f4")},
    )


class TestPrecision:
    def test_it_says_what_it_would_choose(self):
        info = OpenVinoRuntime(threads=1).info()
        assert info.note.startswith("computes in float32, as it is told; its own choice here is ")
        assert info.version.count(".") == 2
        assert info.version.replace(".", "").isdigit()

    def test_anything_but_float32_is_refused(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(openvino, "settings", lambda *_: {"NUM_STREAMS": 1})
        own = OpenVinoRuntime(threads=1).info().note.partition(" here is ")[2].partition(";")[0]
        if own == "float32":
            # A CPU without anything faster has nothing to be told.
            classifier().check(load(classifier()))
            return
        with pytest.raises(LoadError, match=f"told to compute in float32 and computes in {own}"):
            load(classifier())

    @pytest.mark.parametrize("name", ["openvino", "openvino-gpu", "openvino-npu"])
    def test_the_devices_that_it_sees(self, name: str):
        """Whatever this machine has: used by name, or refused with what there is."""
        info = OpenVinoRuntime(threads=1, name=name).info()
        if not info.problem:
            assert info.devices[0].startswith(TARGETS[name].device.lower())
            assert "; it sees CPU" in info.note
            return
        assert name != "openvino"
        assert f"sees no {TARGETS[name].device} here" in info.problem
        assert "it sees: CPU; install" in info.problem
        with pytest.raises(LoadError, match="it sees: CPU"):
            OpenVinoRuntime(threads=1, name=name).load(artefact(double()))

    def test_float64_is_refused(self):
        message = r'input "x" is float64\[batch,4\], and openvino would compute it in float32'
        with pytest.raises(LoadError, match=message):
            load(double("float64"))


class TestRefused:
    def test_an_operator_it_does_not_have(self):
        with pytest.raises(LoadError, match=r"refuses it: .*tiny\.local\.Twice") as caught:
            load(with_function())
        assert "Exception from" not in caught.value.message
        assert ".cpp" not in caught.value.message

    def test_weights_in_a_second_file(self, tmp_path, monkeypatch: pytest.MonkeyPatch):
        model, files = with_external_data()
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        monkeypatch.chdir(tmp_path)  # where the package would look for them
        with pytest.raises(LoadError, match="convert it into one file"):
            load(model, sidecars=files)

    def test_words(self):
        x = TensorEntry("x", "string", ("batch", 4))
        y = TensorEntry("y", "string", ("batch", 4))
        data = onnx_bytes([helper.make_node("Identity", ["x"], ["y"])], [x], [y])
        with pytest.raises(LoadError, match='input "x" is string, not a dense tensor'):
            load(double(), data=data)

    def test_a_service_that_may_not_make_memory_executable(self):
        """As ``MemoryDenyWriteExecute=`` in systemd/edged.service.d/cpu.conf has it."""
        code = """
import ctypes, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, Linux 6.3
    sys.exit("no MDWE here")
from tests.models import classifier
from tests.runtimes.test_openvino import load
try:
    load(classifier())
except Exception as exc:
    sys.exit(f"{type(exc).__name__}: {exc}")
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stderr.strip().splitlines()[-1]
        assert said == "no MDWE here" or (
            said.startswith("LoadError")
            and said.endswith("MemoryDenyWriteExecute=no in a drop-in)")
        )


class TestIr:
    def test_runs(self):
        session = load(double(), data=IR, sidecars={"model.bin": WEIGHTS})
        double().check(session)

    def test_its_weights_outlive_the_artefact(self):
        made = artefact(double(), data=IR, sidecars={"model.bin": bytes(bytearray(WEIGHTS))})
        session = OpenVinoRuntime(threads=1).load(made)
        del made
        double().check(session)

    @pytest.mark.parametrize(
        ("sidecars", "message"),
        [
            ({}, "one file beside it; it has 0"),
            ({"model.bin": b"12"}, "refuses it: .*weights"),
            ({"a.bin": WEIGHTS, "b.bin": WEIGHTS}, "one file beside it; it has 2"),
        ],
    )
    def test_wrong_weights(self, sidecars: dict[str, bytes], message: str):
        with pytest.raises(LoadError, match=f"(?i){message}"):
            load(double(), data=IR, sidecars=sidecars)

    @pytest.mark.parametrize(
        "data", [b"<", b"<hello>", IR[:60], IR[:300], IR.replace(b"net", b"nut")]
    )
    def test_no_ir(self, data: bytes):
        with pytest.raises(LoadError, match="refuses it"):
            load(double(), data=data, sidecars={"model.bin": WEIGHTS})

    def test_another_signature(self):
        spec = TensorSpec("x", "float32", ("batch", 5))
        with pytest.raises(LoadError, match=r"promises float32\[batch,5\]"):
            load(double(), data=IR, sidecars={"model.bin": WEIGHTS}, inputs=(spec,))


class TestThreads:
    @pytest.mark.parametrize(
        ("asked", "threads", "streams"), [(1, 4, 4), (2, 4, 2), (3, 3, 1), (0, 4, 1), (8, 8, 1)]
    )
    def test_as_many_streams_as_runs_fit_on_the_cores(
        self, monkeypatch: pytest.MonkeyPatch, asked: int, threads: int, streams: int
    ):
        monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
        made = OpenVinoRuntime(threads=asked)
        settings = openvino.settings(TARGETS["openvino"], made._threads, made._streams)
        assert settings["INFERENCE_NUM_THREADS"] == threads
        assert settings["NUM_STREAMS"] == streams


def test_nothing_is_reported():
    """Importing the package as it comes sends an event; see that the part is not even loaded."""
    code = (
        "import sys; from edged.runtimes.openvino import OpenVinoRuntime;"
        "assert not OpenVinoRuntime(threads=1).info().problem;"
        "print([n for n, m in sys.modules.items() if m and"
        " ('telemetry' in n and n.startswith('openvino') or n.startswith('openvino.tools'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


class Elsewhere:
    """The package on a machine with a GPU and an NPU, which compute as the processor does.

    What they would be told is kept; what reads and compiles is real.
    """

    def __init__(self, precision: str) -> None:
        self.real = openvino._open_core(openvino.backend_module())
        self.available_devices = ["CPU", "GPU.0", "GPU.1", "NPU"]
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.precision = precision
        self.shapes: list[list[Any]] = []

    def read_model(self, *data: Any) -> Any:
        return self.real.read_model(*data)

    def compile_model(self, model: Any, device: str, settings: dict[str, Any]) -> Any:
        self.told.append((device, settings))
        self.shapes.append([list(port.partial_shape) for port in model.inputs])
        compiled = self.real.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return _Compiled(compiled, self.precision)


class _Compiled:
    def __init__(self, real: Any, precision: str) -> None:
        self._real, self._precision = real, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_property(self, _name: str) -> Any:
        return getattr(openvino.backend_module().Type, self._precision)


class TestElsewhere:
    def core(self, monkeypatch: pytest.MonkeyPatch, precision: str) -> Elsewhere:
        core = Elsewhere(precision)
        monkeypatch.setattr(openvino, "_open_core", lambda _: core)
        return core

    def test_a_gpu(self, monkeypatch: pytest.MonkeyPatch):
        core = self.core(monkeypatch, "f32")
        runtime = OpenVinoRuntime(threads=1, name="openvino-gpu")
        assert runtime.info().devices == ("gpu.0", "gpu.1")
        assert runtime.info().note == (
            "computes in float32, as it is told; it sees CPU, GPU.0, GPU.1, NPU"
        )
        classifier().check(runtime.load(artefact(classifier())))
        [(device, told)] = core.told
        assert device == "GPU"
        assert told["INFERENCE_PRECISION_HINT"] == "f32"
        assert told["CACHE_DIR"] == ""
        assert "INFERENCE_NUM_THREADS" not in told

    def test_a_gpu_that_computes_otherwise(self, monkeypatch: pytest.MonkeyPatch):
        self.core(monkeypatch, "f16")
        with pytest.raises(LoadError, match="told to compute in float32 and computes in float16"):
            OpenVinoRuntime(threads=1, name="openvino-gpu").load(artefact(classifier()))

    def test_an_npu_takes_fixed_lengths_alone(self, monkeypatch: pytest.MonkeyPatch):
        core = self.core(monkeypatch, "f16")
        runtime = OpenVinoRuntime(threads=1, name="openvino-npu")
        with pytest.raises(
            LoadError, match=r'"x" is float32\[batch,4\], and the NPU takes models of'
        ):
            runtime.load(artefact(double()))
        fixed = replace(
            artefact(double()),
            inputs=(TensorSpec("x", "float32", (2, 4)),),
            outputs=(TensorSpec("y", "float32", (2, 4)),),
        )
        session = runtime.load(fixed)
        x = np.arange(8, dtype="f4").reshape(2, 4)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x * 2)
        [(device, told)] = core.told
        assert device == "NPU"
        assert told["INFERENCE_PRECISION_HINT"] == "f16"
        assert told["NPU_BYPASS_UMD_CACHING"] is True
        assert [[axis.get_length() for axis in shape] for [shape] in core.shapes] == [[2, 4]]
