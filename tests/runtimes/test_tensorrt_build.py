"""Building engines: what is asked of TensorRT, what is looked at afterwards, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from onnx import TensorProto, helper

from edged.errors import LoadError
from edged.manifest import TensorEntry
from edged.runtimes import tensorrt_build
from edged.runtimes.base import Artefact
from edged.runtimes.engine import BuildOptions
from edged.runtimes.tensorrt_api import TensorRt
from edged.runtimes.tensorrt_build import Built, build_engine, check_precision, count_built
from edged.tensors import TensorSpec
from tests.fakes import tensorrt as fake
from tests.fakes.gpu import FakeGpu
from tests.fakes.tensorrt_stand import Stand
from tests.models import TinyModel, classifier, double, image, onnx_bytes, two_inputs
from tests.runtimes.test_engine import HOST


def trt(release: str = "10.3", fault: str = "") -> TensorRt:
    return TensorRt(fake.module(release, FakeGpu(), fault=fault), "TensorRT", f"{release}.0")


def artefact(model: TinyModel, **changes: Any) -> Artefact:
    made = Artefact(
        model.name,
        model.data,
        tuple(entry.spec() for entry in model.inputs),
        tuple(entry.spec() for entry in model.outputs),
    )
    return replace(made, **changes)


def build(
    model: TinyModel, *, release: str = "10.3", fault: str = "", cache: bytes = b"", **options: Any
) -> Built:
    return build_engine(trt(release, fault), HOST, artefact(model), BuildOptions(**options), cache)


def head(built: Built) -> dict[str, Any]:
    """What the fake wrote down of the build."""
    plan = built.engine.plan
    return msgspec.json.decode(plan[4 : 4 + int.from_bytes(plan[:4], "little")])


class TestWhatIsAsked:
    def test_the_profile_is_the_batch_from_one_to_the_most(self):
        made = build(double(), max_batch=32, usual_batch=8)
        assert head(made)["profiles"][0] == {"x": [[1, 4], [8, 4], [32, 4]]}
        assert made.engine.fingerprint.io[0].range == ((1, 4), (8, 4), (32, 4))

    def test_without_a_usual_batch_it_is_tuned_for_the_largest(self):
        assert head(build(double(), max_batch=6))["profiles"][0]["x"] == [[1, 4], [6, 4], [6, 4]]
        assert head(build(double(), max_batch=2, usual_batch=8))["profiles"][0]["x"][1] == [2, 4]

    def test_exact_numbers_of_rows_have_a_profile_beside(self):
        made = build(double(), exact=(1, 4))
        assert [one["x"][0][0] for one in head(made)["profiles"]] == [1, 1, 4]
        (x, _) = made.engine.fingerprint.io
        assert x.range == ((1, 4), (8, 4), (8, 4))
        assert x.more == (((1, 4),) * 3, ((4, 4),) * 3)

    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_a_profile_serves_several_contexts(self, release: str):
        """The oldest release has to be told; without it a second run at once would find none."""
        assert head(build(double(), release=release))["shares"]

    def test_other_free_axes_have_the_range_that_is_given(self):
        with pytest.raises(
            LoadError, match=r'axis "height" of input "image" is free; .*axes: \{height:'
        ):
            build(image())
        axes = {"height": (8, 16, 32), "width": (8, 16, 64)}
        made = build(image(), axes=axes, max_batch=2)
        low, usual, high = head(made)["profiles"][0]["image"]
        assert (low[2:], usual[2:], high[2:]) == ([8, 8], [16, 16], [32, 64])

    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_types_are_the_graphs(self, release: str):
        """Strong typing where the release has it; else the flags for what the graph has."""
        half, single = build(double("float16"), release=release), build(double(), release=release)
        if release == "8.6":
            assert head(half)["network_flags"] == 1
            assert "FP16" in half.engine.fingerprint.flags
            assert "FP16" not in single.engine.fingerprint.flags
        else:
            assert head(half)["network_flags"] == (1 if release == "11.4" else 2)
            assert half.engine.fingerprint.flags == ()
        assert half.engine.fingerprint.asked == half.engine.fingerprint.built == {"HALF": 1}

    def test_float32_is_float32(self):
        assert head(build(double()))["flags"] == []
        assert head(build(double(), tf32=True))["flags"] == ["TF32"]

    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_flags_only_where_they_exist(self, release: str):
        made = build(double(), release=release, is_version_compatible=True, hardware="ampere_plus")
        assert {"VERSION_COMPATIBLE", "HARDWARE_AMPERE_PLUS"} <= set(made.engine.fingerprint.flags)
        if release in ("8.6", "10.3"):
            with pytest.raises(LoadError, match="no hardware compatibility level"):
                build(double(), release=release, hardware="same_compute_capability")
        else:
            build(double(), release=release, hardware="same_compute_capability")

    def test_outputs_that_nobody_promised_are_left_out(self):
        model = classifier()
        made = build_engine(
            trt(), HOST, artefact(model, outputs=artefact(model).outputs[1:]), BuildOptions()
        )
        assert head(made)["outputs"] == [model.outputs[1].name]

    def test_the_timing_cache_goes_in_and_comes_out(self):
        first = build(double())
        assert first.timing_cache == b"timed "
        assert not first.engine.fingerprint.timing_cache_sha256
        again = build(double(), cache=first.timing_cache)
        assert again.timing_cache == b"timed timed "
        assert len(again.engine.fingerprint.timing_cache_sha256) == 64

    def test_the_fingerprint_names_its_source(self):
        made = build(double()).engine.fingerprint
        assert made.host == HOST
        assert made.onnx_sha256 != made.plan_sha256
        assert made.options == BuildOptions()
        assert made.device_bytes == 4096


class TestRefusals:
    @pytest.mark.parametrize("data", [b"", b"hello", bytes(1000)])
    def test_no_model(self, data: bytes):
        with pytest.raises(
            LoadError, match=r"10.3.0 cannot take it: node -1.*Failed to parse the ONNX"
        ):
            build_engine(trt(), HOST, artefact(double(), data=data), BuildOptions())

    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_an_operator_it_lacks_is_named_with_its_node(self, release: str):
        x, y = (TensorEntry(name, "int32", ("batch", 4)) for name in "xy")
        node = helper.make_node("Mod", ["x", "w"], ["y"], name="blocks/3/mod")
        data = onnx_bytes([node], [x], [y], {"w": np.ones(4, "i4")})
        model = replace(double(), data=data, inputs=(x,), outputs=(y,))
        words = (
            "node 0: no importer"
            if release == "8.6"
            else r'node 0 \(Mod "blocks/3/mod"\): no importer'
        )
        with pytest.raises(LoadError, match=words):
            build(model, release=release)

    def test_no_engine_comes_with_the_loggers_words(self):
        with pytest.raises(
            LoadError, match="cannot build it: Could not find any implementation for node Conv_0"
        ):
            build(double(), fault="build")

    def test_weights_in_a_second_file(self):
        with pytest.raises(LoadError, match="convert it into one file"):
            build_engine(trt(), HOST, artefact(double(), sidecars={"w": b"x"}), BuildOptions())

    def test_another_signature(self):
        spec = TensorSpec("z", "float32", ("batch", 4))
        with pytest.raises(LoadError, match=r'promises inputs z; .* has "x"'):
            build_engine(trt(), HOST, artefact(double(), inputs=(spec,)), BuildOptions())
        spec = TensorSpec("x", "float32", ("batch",))
        with pytest.raises(
            LoadError, match=r'input "x" is \(-1, 4\); promised is float32\[batch\]'
        ):
            build_engine(trt(), HOST, artefact(double(), inputs=(spec,)), BuildOptions())

    def test_a_range_that_runs_backwards(self):
        with pytest.raises(LoadError, match="refuses the range of its shapes"):
            build(image(), axes={"height": (32, 16, 8), "width": (8, 8, 8)})

    def test_an_input_that_decides_shapes(self):
        x = helper.make_tensor_value_info("shape", TensorProto.INT64, [2])
        model = double()
        data = onnx_bytes(
            [helper.make_node("Identity", ["shape"], ["y"])],
            [TensorEntry("shape", "int64", (2,))],
            [TensorEntry("y", "int64", (2,))],
            {},
        )
        made = Artefact(
            "m", data, (TensorSpec(x.name, "int64", (2,)),), (TensorSpec("y", "int64", (2,)),)
        )
        with pytest.raises(LoadError, match='input "shape" decides shapes'):
            build_engine(trt(), HOST, made, BuildOptions())
        assert model

    def test_a_library_that_gives_no_builder(self):
        module = fake.module("10.3", FakeGpu())

        def fails(logger: Any) -> Any:
            logger.log(logger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

        module.Builder = fails
        broken = TensorRt(module, "TensorRT", "10.3.0")
        with pytest.raises(LoadError, match="gives no builder: CUDA initialization failure"):
            build_engine(broken, HOST, artefact(double()), BuildOptions())


class TestPrecision:
    """TensorRT 10.13 on Thor and 11 built float32 where half was asked, without a word."""

    def test_half_that_was_forgotten(self):
        with pytest.raises(
            LoadError, match=r"asks for float16; TensorRT 10.3.0 built no layer of it \(1 FLOAT\)"
        ):
            build(double("float16"), fault="float32")

    def test_half_that_nobody_asked_for(self):
        with pytest.raises(
            LoadError, match=r"does not ask for float16; TensorRT 10.3.0 built 1 layers"
        ):
            build(double(), fault="half")

    def test_an_engine_that_tells_nothing_is_not_judged(self):
        check_precision("m", trt(), {"HALF": 1}, {})

    def test_one_of_two_low_precisions_is_enough(self):
        """INT8 layers take the half-precision ones around them along when they are fused."""
        check_precision("m", trt(), {"HALF": 3, "INT8": 4}, {"INT8": 4})

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            ("Row major linear FP32", "FLOAT"),
            ("Channel major FP16 format where channel % 8 == 0", "HALF"),
            ("Half", "HALF"),
            ("Thirty-two wide channel vectorized row major Int8 format", "INT8"),
            ("BFloat16", "BF16"),
        ],
    )
    def test_how_the_inspector_spells_types(self, said: str, kind: str):
        layers = {"Layers": [{"Name": "a", "Outputs": [{"Name": "t", "Format/Datatype": said}]}]}
        assert count_built(msgspec.json.encode(layers).decode()) == {kind: 1}

    @pytest.mark.parametrize(
        "text", ["", "no JSON", "[]", '{"Layers": ["name"]}', '{"Layers": [{"Outputs": []}]}']
    )
    def test_an_inspector_that_says_less(self, text: str):
        assert count_built(text) == {}


def test_two_inputs_share_the_batch():
    made = build(two_inputs(), max_batch=4)
    assert {end[0] for io in made.engine.fingerprint.io for end in io.range} == {1, 4}


class TestControls:
    """Each refusal switched off once: what would get through."""

    def test_without_the_look_at_the_layers_another_precision_is_served(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(tensorrt_build, "check_precision", lambda *_: None)
        made = build(double("float16"), fault="float32").engine.fingerprint
        assert (made.asked, made.built) == ({"HALF": 1}, {"FLOAT": 1})

    def test_without_the_flags_of_weak_typing_8_6_builds_float32_and_is_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(tensorrt_build, "_FLAGS_BY_TYPE", {})
        with pytest.raises(LoadError, match=r"asks for float16; TensorRT 8\.6\.0 built no layer"):
            build(double("float16"), release="8.6")


class TestAccelerator:
    def build(self, model: TinyModel, dla: int = 0, cores: int = 2, **more: Any) -> Built:
        stand = Stand(more.pop("release", "10.3"), dla=cores)
        options = BuildOptions(dla=dla, **more)
        return build_engine(stand.trt, HOST, stand.artefact(model), options)

    @pytest.mark.parametrize("release", ["8.6", "10.3", "10.16"])
    def test_it_is_placed_there_and_the_flags_choose_types(self, release: str):
        made = self.build(double("float16"), dla=1, release=release)
        found = made.engine.fingerprint
        assert {"FP16", "GPU_FALLBACK"} <= set(found.flags)
        assert (head(made)["network_flags"], head(made)["dla"]) == (1, 1)
        assert (found.placed, found.built) == ({"dla": 1, "gpu": 0}, {"HALF": 1})
        assert found.io[0].range == ((8, 4),) * 3

    @pytest.mark.parametrize(
        ("model", "how", "words"),
        [
            (double("float16"), {"cores": 0}, "core 0 of a deep .* this device has 0"),
            (double("float16"), {"dla": 2}, "core 2 of a deep .* this device has 2"),
            (double(), {}, "float16 and int8 only, and the model has FLOAT"),
            (double("float16"), {"release": "11.4"}, "has no builder flag FP16"),
        ],
    )
    def test_what_it_cannot(self, model: TinyModel, how: Any, words: str):
        with pytest.raises(LoadError, match=words):
            self.build(model, **how)

    def test_nothing_that_it_could_run(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(fake.IBuilderConfig, "can_run_on_DLA", lambda *_: False)
        with pytest.raises(LoadError, match="can run none of its 1 layers on the deep"):
            self.build(double("float16"))
