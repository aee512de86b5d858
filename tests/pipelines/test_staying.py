"""What stays on a device between two models: who decides, and that nothing is copied then."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from edged.messages import InferRequest
from edged.pipelines.staying import staying
from edged.resident import Keeping, Resident
from edged.runtimes.onnxruntime_device import OnnxDeviceSession
from edged.serving.caching.cached import Cached
from tests.fakes.clock import on_loop, turns, until
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession
from tests.fakes.onnx_device import DeviceRuntime, FakeDevice
from tests.fakes.pipelines import Site, planned
from tests.models import double
from tests.pipelines.test_run import CHAIN, X, ask, idle
from tests.runtimes.test_onnxruntime_device import artefact

MANIFEST = make_manifest([("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))])
HEAD = '    inputs: {x: "float32[batch,4]"}\n    steps:\n'
A, B = "{name: a, model: one, inputs: x}", "{name: b, model: two, inputs: a}"


def of(*steps: str, outputs: str = "y: b", **places: str) -> dict[str, set[str]]:
    """By a step's name, what of it stays; models are on cuda:0 unless told otherwise."""
    text = HEAD + "".join(f"    - {step}\n" for step in steps) + f"    outputs: {{{outputs}}}\n"
    plan, problems = planned(text, one=MANIFEST, two=MANIFEST, three=MANIFEST)
    assert not problems
    assert plan is not None
    found = staying(plan, lambda member: places.get(member.model, "cuda:0"))
    return {plan.nodes[place].name: set(names) for place, names in found.items()}


class TestDecided:
    def test_between_two_models_of_one_device(self):
        assert of(A, B) == {"a": {"y"}}

    @pytest.mark.parametrize("places", [{"one": ""}, {"two": ""}, {"two": "cuda:1"}])
    def test_not_between_others(self, places: dict[str, str]):
        assert of(A, B, **places) == {}

    def test_along_a_chain(self):
        assert of(A, B, "{name: c, model: three, inputs: b}", outputs="y: c") == {
            "a": {"y"}, "b": {"y"},
        }  # fmt: skip

    def test_for_several_readers_if_all_are_there(self):
        steps = (A, B, "{name: c, model: three, inputs: a}")
        assert of(*steps, outputs="y: b, z: c") == {"a": {"y"}}
        assert of(*steps, outputs="y: b, z: c", three="") == {}

    @pytest.mark.parametrize(
        ("steps", "outputs"),
        [
            ((A, B), "y: b, z: a"),
            ((A, B, "{name: c, compute: a + 1}"), "y: b, z: c"),
            ((A, "{name: b, model: two, inputs: a, when: any(a > 0), default: 0}"), "y: b"),
            ((A,), "y: a"),
        ],
        ids=["an answer", "a step that is no model", "a condition", "nobody but the asker"],
    )
    def test_not_where_the_host_looks_at_it(self, steps: tuple[str, ...], outputs: str):
        assert of(*steps, outputs=outputs) == {}

    def test_a_model_that_may_be_skipped(self):
        assert of("{name: a, model: one, inputs: x, when: any(x > 0), default: 0}", B) == {
            "a": {"y"}
        }

    def test_not_in_a_fan_out(self):
        each = ("{name: e, each: {from: a}}", "{name: b, model: whole, inputs: e}")
        steps = (A, *each, "{name: c, model: whole, inputs: b}", "{name: g, gather: {from: c}}")
        text = HEAD + "".join(f"    - {step}\n" for step in steps) + "    outputs: {y: g}\n"
        plan, problems = planned(text, one=MANIFEST, whole=MANIFEST)
        assert not problems
        assert plan is not None
        assert staying(plan, lambda _: "cuda:0") == {}


def on_device(device: FakeDevice | None, factor: int) -> tuple:
    session = DeviceRuntime(device).load(artefact(double(factor=factor)))
    return session, MANIFEST, 10**9


THREE = (
    HEAD
    + f"""\
    - {A}
    - {B}
    - {{name: c, model: three, inputs: b}}
    outputs: {{y: c}}
"""
)


def site_of(device: FakeDevice | None, ns: int = 10**9) -> Site:
    models = {"one": 2, "two": 3, "three": 5}
    return Site(THREE, **{n: (*on_device(device, factor)[:2], ns) for n, factor in models.items()})


@pytest.mark.parametrize("ns", [100, 10**9], ids=["on the loop", "on threads"])
@on_loop
async def test_one_copy_in_and_one_out(ns: int):
    device = FakeDevice()
    site = site_of(device, ns)
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 30)
    assert device.copies == (1, 1)
    idle(site)
    gc.collect()
    await until(lambda: not device.live)


@on_loop
async def test_a_batch_of_several_stays_a_batch():
    device = FakeDevice()
    site = site_of(device)
    answers = [ask(site, {"x": X + n})[0] for n in range(5)]
    await until(lambda: all(answers))
    for n, one in enumerate(answers):
        np.testing.assert_array_equal(one.only.outputs["y"], (X + n) * 30)
    assert device.copies == (1, 1)
    assert site.releases["three"].counters.batches == 1
    await until(lambda: not device.live)


@on_loop
async def test_others_in_a_batch_get_theirs_on_the_host():
    device = FakeDevice()
    site = site_of(device)
    got: list[np.ndarray] = []
    answers, _ = ask(site)
    await turns(1)
    site.plane.submit(
        InferRequest("two", {"x": X + 1}), lambda response, _: got.append(response.outputs["y"])
    )
    await until(lambda: answers and got)
    assert type(got[0]) is np.ndarray
    np.testing.assert_array_equal(got[0], (X + 1) * 3)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 30)


@on_loop
async def test_for_real_on_the_cpu_provider():
    site = site_of(None)
    assert [set(names) for names in site.pipeline.staying.values()] in ([], [{"y"}, {"y"}])
    answers = [ask(site, {"x": X + n})[0] for n in range(20)]
    await until(lambda: all(answers))
    for n, one in enumerate(answers):
        np.testing.assert_array_equal(one.only.outputs["y"], (X + n) * 30)
    assert site.pipeline.staying
    idle(site)


@on_loop
async def test_a_model_that_moves_to_the_host_meanwhile_gets_it_there():
    """It was loaded again elsewhere while its request stood in the queue."""
    device = FakeDevice()
    site = site_of(device)
    release = site.releases["two"]
    held = release.is_held
    release.is_held = True
    answers, _ = ask(site)
    await until(lambda: release.backlog.items)
    waiting = release.backlog.items[0].request
    assert type(waiting.inputs) is Keeping
    assert type(waiting.inputs["x"]) is Resident
    plain = FakeSession(lambda inputs: {"y": inputs["x"] * 3})
    release.is_held = held
    release.loaded(plain, "onnxruntime", 10**9)
    assert type(waiting.inputs["x"]) is np.ndarray
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 30)


@on_loop
async def test_one_that_moved_before_it_was_asked_gets_it_there():
    device = FakeDevice()
    site = site_of(device)
    assert site.pipeline.answers
    seen: list[type] = []
    plain = FakeSession(lambda inputs: seen.append(type(inputs["x"])) or {"y": inputs["x"] * 3})
    site.releases["two"].session = plain
    answers, _ = ask(site)
    await until(lambda: answers)
    np.testing.assert_array_equal(answers.only.outputs["y"], X * 30)
    assert seen == [np.ndarray]
    assert device.copies == (2, 2)


@on_loop
async def test_models_with_a_cache_look_at_every_number():
    device = FakeDevice()
    site = site_of(device)
    site.releases["two"].cache = object.__new__(Cached)
    site.pipeline._moves = -1
    assert site.pipeline.answers
    assert not site.pipeline.staying


@on_loop
async def test_models_of_the_cpu_know_nothing_of_it():
    site = Site(
        CHAIN, one=(FakeSession(lambda i: {"y": i["x"]}), MANIFEST, 100), two=on_device(None, 3)
    )
    seen: list[type] = []
    real = site.sessions["one"].run

    def run(inputs):
        seen.append(type(inputs))
        return real(inputs)

    site.sessions["one"].run = run
    answers, _ = ask(site)
    await until(lambda: answers)
    assert site.pipeline.staying == {}
    assert seen == [dict]


@on_loop
async def test_an_error_gives_the_memory_back_too():
    device = FakeDevice()
    site = site_of(device)
    session = site.sessions["three"]
    assert isinstance(session, OnnxDeviceSession)
    session.close()
    answers, _ = ask(site)
    await until(lambda: answers)
    assert 'step "c"' in answers.only.error.message
    answers.clear()
    await until(lambda: not device.live)
