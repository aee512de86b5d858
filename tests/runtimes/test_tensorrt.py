"""Running engines: the models of every runtime, and what only TensorRT can do wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from edged.errors import LoadError
from edged.runtimes import tensorrt
from edged.runtimes.engine import Engine, Host, decode, sha256
from edged.runtimes.tensorrt import TensorRtRuntime
from edged.runtimes.tensorrt_api import TensorRt
from edged.tensors import TensorSpec
from tests.fakes import tensorrt as fake
from tests.fakes.tensorrt_stand import Stand
from tests.models import TinyModel, all_models, classifier, double


@pytest.fixture
def stand() -> Stand:
    return Stand()


TAKEN = [m for m in all_models() if not m.name.endswith(("float64", "uint32", "uint64"))]
"""TensorRT has no such types."""


@pytest.mark.parametrize("cuda", ["cuda-bindings", "pycuda"])
@pytest.mark.parametrize("release", fake.RELEASES)
@pytest.mark.parametrize("model", TAKEN, ids=lambda m: m.name)
def test_every_model_on_every_release_through_both_ways_to_cuda(
    model: TinyModel, release: str, cuda: str
):
    stand = Stand(release, cuda)
    session = stand.session(model)
    model.check(session)
    assert [spec.name for spec in session.inputs] == [entry.name for entry in model.inputs]
    session.close()
    session.close()
    assert not stand.gpu.memory
    assert not stand.gpu.host


class TestWrongEngines:
    @pytest.mark.parametrize("name", Host.__struct_fields__)
    def test_built_elsewhere(self, stand: Stand, name: str):
        """Refused before TensorRT sees it: its plan is not even loaded."""
        made = stand.engine(double())
        engine = decode(made.data)
        value = 99 if name == "processors" else "other"
        host = msgspec.structs.replace(engine.fingerprint.host, **{name: value})
        moved = Engine(msgspec.structs.replace(engine.fingerprint, host=host), engine.plan)
        stand.trt.module.Runtime = None
        with pytest.raises(
            LoadError, match=f"was built for {name.replace('_', ' ')} .*build it again"
        ):
            stand.runtime.load(replace(made, data=moved.encode()))

    def test_a_plan_that_tensorrt_refuses_comes_with_its_words(self, stand: Stand):
        made = stand.engine(double())
        fingerprint = decode(made.data).fingerprint
        plan = b"not a plan"
        changed = msgspec.structs.replace(
            fingerprint, plan_sha256=sha256(plan), plan_bytes=len(plan)
        )
        with pytest.raises(LoadError, match="refuses the engine: Version tag does not match Note:"):
            stand.runtime.load(replace(made, data=Engine(changed, plan).encode()))

    @pytest.mark.parametrize("data", [b"", b"hello", double().data])
    def test_no_engine(self, stand: Stand, data: bytes):
        with pytest.raises(LoadError, match=r'^model "double-float32": this is no engine file'):
            stand.runtime.load(replace(stand.artefact(double()), data=data))

    def test_another_signature(self, stand: Stand):
        made = stand.engine(double())
        for spec, words in (
            (TensorSpec("z", "float32", ("batch", 4)), 'has "x"'),
            (TensorSpec("x", "float16", ("batch", 4)), r'"x" is float32\[batch,4\]'),
            (TensorSpec("x", "float32", ("batch", 5)), r"promises float32\[batch,5\]"),
            (TensorSpec("x", "float32", ("batch",)), r"promises float32\[batch\]"),
        ):
            with pytest.raises(LoadError, match=words):
                stand.runtime.load(replace(made, inputs=(spec,)))

    def test_an_output_as_long_as_the_data_says(self, stand: Stand):
        from onnx import helper

        from tests.models import onnx_bytes

        x, y = double().inputs[0], replace_name(double().outputs[0], "unknown")
        data = onnx_bytes([helper.make_node("Identity", ["x"], ["unknown"])], [x], [y], {})
        model = replace(double(), data=data, outputs=(y,))
        with pytest.raises(LoadError, match='how long output "unknown" is depends on the data'):
            stand.session(model)


def replace_name(entry: Any, name: str) -> Any:
    return msgspec.structs.replace(entry, name=name)


def test_info(stand: Stand):
    info = stand.runtime.info()
    assert (info.name, info.version, info.devices) == ("tensorrt", "10.3.0", ("cuda:0",))


def test_info_without_a_driver(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "edged.runtimes.tensorrt.driver_problem", lambda: "no NVIDIA driver is installed"
    )
    assert TensorRtRuntime().info().problem == "no NVIDIA driver is installed"


def test_estimate_grows_with_the_engine(stand: Stand):
    small, large = stand.artefact(double()), stand.artefact(classifier())
    more = replace(large, data=bytes(1 << 20))
    assert stand.runtime.estimate_bytes(more) - stand.runtime.estimate_bytes(small) > 1 << 20


class TestControls:
    """Each refusal switched off once: what would get through."""

    def test_an_engine_of_another_gpu_would_run(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ):
        made = stand.engine(double())
        engine = decode(made.data)
        host = msgspec.structs.replace(engine.fingerprint.host, compute_capability="9.9")
        moved = Engine(msgspec.structs.replace(engine.fingerprint, host=host), engine.plan)
        monkeypatch.setattr(tensorrt, "check_host", lambda *_: None)
        double().check(stand.runtime.load(replace(made, data=moved.encode())))

    def test_the_driver_is_asked_before_anything_of_tensorrt_is_touched(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        """Without a driver the package crashes; nothing catches that."""
        touched: list[str] = []

        def find() -> TensorRt:
            touched.append("tensorrt")
            raise LoadError("touched")

        monkeypatch.setattr(tensorrt, "find_tensorrt", find)
        monkeypatch.setattr(tensorrt, "driver_problem", lambda: "no driver")
        with pytest.raises(LoadError, match="no driver"):
            TensorRtRuntime().open()
        assert not touched
        monkeypatch.setattr(tensorrt, "driver_problem", lambda: "")
        with pytest.raises(LoadError, match="touched"):
            TensorRtRuntime().open()
        assert touched == ["tensorrt"]
