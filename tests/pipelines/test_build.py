"""From files to pipelines: problems with their places, and what is only not ready yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.config.load import load
from edged.pipelines.build import pipeline_routes, plan_all
from edged.pipelines.pipeline import PipelineRelease
from edged.processing.texts import unpack_texts
from edged.serving.router import Route
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from edged.specs import OutputProcessing
from tests.fakes.clock import on_loop
from tests.fakes.manifests import make_manifest
from tests.serving.test_dataplane import FakeSession, served

ONE = make_manifest([("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))])
TEXT = """\
trust: {require_signatures: false}
models: {gate: {bundle: gate.edgb}}
pipelines:
  p:
    inputs: {x: "float32[batch,4]"}
    steps: [{name: a, model: gate, inputs: x}]
    outputs: {y: a}
"""


@pytest.fixture
def snapshot(tmp_path: Path):
    def make(text: str):
        (tmp_path / "edged.yaml").write_text(text)
        return load(tmp_path)

    return make


def test_good_ones(snapshot):
    made = plan_all(snapshot(TEXT), lambda _m, _s: ONE)
    assert list(made.plans) == ["p"]
    assert not made.problems
    assert not made.broken


def test_problems_have_places(snapshot):
    made = plan_all(snapshot(TEXT.replace('x: "float32', 'x: "int8')), lambda _m, _s: ONE)
    (problem,) = made.problems
    assert (problem.line, problem.path) == (6, "pipelines.p.steps[0].inputs")
    assert not made.plans
    assert "convert it with compute" in made.broken["p"]


def test_without_a_bundle_there_is_no_plan_and_no_problem(snapshot):
    made = plan_all(snapshot(TEXT), lambda _m, _s: None)
    assert not made.plans
    assert not made.problems
    assert made.broken == {"p": "the bundle of one of its models could not be taken"}


@on_loop
async def test_routes(snapshot):
    """One without a plan gets it when a fallback of its model serves."""
    config = snapshot(TEXT)
    workshop = Workshop(Turn())
    routes = {"gate": Route("gate", {})}
    (route,) = pipeline_routes(config, {}, routes, workshop).values()
    assert not route.releases
    assert not route.is_ready
    routes = {"gate": Route("gate", {1: served(FakeSession())})}
    (route,) = pipeline_routes(config, {}, routes, workshop).values()
    assert isinstance(route.releases[1], PipelineRelease)
    assert route.is_ready


@on_loop
async def test_planned_anew_with_the_files_that_were_taken(snapshot, tmp_path: Path):
    """They may have changed since, into something that a reload has refused."""
    named = "- {name: named, labels: {from: a, file: names.txt}}\n    outputs: {y: named.label}"
    text = TEXT.replace(
        "[{name: a, model: gate, inputs: x}]", "\n    - {name: a, model: gate, inputs: x}"
    )
    config = snapshot(text.replace("outputs: {y: a}", named))
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\nfour\n")
    plans = plan_all(config, lambda _m, _s: ONE).plans
    (tmp_path / "names.txt").write_text("refused: too few\n")
    routes = {"gate": Route("gate", {2: served(FakeSession(), 2)})}
    (route,) = pipeline_routes(config, plans, routes, Workshop(Turn())).values()
    pipeline = route.releases[1]
    assert pipeline.manifest.outputs[0].name == "y"
    assert route.is_ready, pipeline.reason
    assert pipeline.plan is not plans["p"], "its model is another release"


@on_loop
async def test_planned_anew_with_the_labels_of_another_bundle(snapshot):
    def bundle(*labels: str):
        words = {"y": OutputProcessing("none", labels)}
        return make_manifest(
            [("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))],
            name="gate", output_processing=words,
        )  # fmt: skip

    named = "- {name: named, labels: {from: a}}\n    outputs: {y: named.label}"
    text = TEXT.replace(
        "[{name: a, model: gate, inputs: x}]", "\n    - {name: a, model: gate, inputs: x}"
    )
    config = snapshot(text.replace("outputs: {y: a}", named))
    plans = plan_all(config, lambda _m, _s: bundle("a", "b", "c", "d")).plans
    routes = {
        "gate": Route("gate", {1: served(FakeSession(), manifest=bundle("e", "f", "g", "h"))})
    }
    (route,) = pipeline_routes(config, plans, routes, Workshop(Turn())).values()
    assert route.is_ready
    (node,) = (n for n in route.releases[1].plan.nodes if n.name == "named")
    made = node.work.run({"from": np.float32([[0, 1, 0, 0]])})
    assert unpack_texts(made["label"]) == ["f"]
