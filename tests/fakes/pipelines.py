"""Pipelines over fake models, without files: configured as text, asked through the one door."""

from __future__ import annotations

from pathlib import Path

from edged.config.convert import convert_config
from edged.config.load import read_document
from edged.config.pipeline import PipelineConfig
from edged.config.schema import ModelConfig
from edged.manifest import Manifest
from edged.pipelines.graph import Member, Plan
from edged.pipelines.pipeline import PipelineRelease
from edged.pipelines.plan import plan_pipeline
from edged.serving.dataplane import Dataplane, ServingTable
from edged.serving.lifecycle import Event, ReleaseKey
from edged.serving.release import ServedRelease
from edged.serving.router import Route
from edged.serving.scheduling.turn import Turn
from edged.serving.workshop import Workshop
from tests.fakes.manifests import make_manifest
from tests.fakes.model import FakeSession


def config_of(text: str) -> PipelineConfig:
    """The one pipeline of a configuration's text."""
    document, problems = read_document("x", f"pipelines:\n  p:\n{text}".encode())
    assert document is not None, problems
    draft = convert_config(document)
    assert not draft.problems, draft.problems
    return draft.config.pipelines["p"]


ROWS = ("batch", 4)


def model(function=lambda inputs: {"y": inputs["x"] * 2}, inputs=None, outputs=None, ns=100):
    """A fake model: what it computes, its signature, and how long its run is said to take."""
    inputs = inputs or [("x", "float32", ROWS)]
    outputs = outputs or [("y", "float32", inputs[0][2])]
    return FakeSession(function), make_manifest(inputs, outputs), ns


class Site:
    """A door with models and one pipeline ``p``."""

    def __init__(self, text: str, **models) -> None:
        self.sessions = {name: session for name, (session, _, _) in models.items()}
        self.manifests = {name: manifest for name, (_, manifest, _) in models.items()}
        turn = Turn()
        self.workshop = Workshop(turn)
        self.releases = {}
        for name, (session, manifest, ns) in models.items():
            release = ServedRelease(
                ReleaseKey(name, "d", ""), manifest, ModelConfig(bundle="b"), 200_000, turn
            )
            for event in (Event.LOAD, Event.LOADED):
                release.move(event)
            release.loaded(session, "onnxruntime", ns)
            release.move(Event.WARMED)
            self.releases[name] = release
        routes = {name: Route(name, {1: one}) for name, one in self.releases.items()}
        plan, problems = plan_pipeline("p", config_of(text), self.manifest_of, Path)
        assert not problems, problems
        assert plan is not None
        self.plan = plan
        self.pipeline = PipelineRelease(plan, routes, self.workshop, self.replan)
        routes["p"] = Route("p", {self.pipeline.number: self.pipeline})
        self.plane = Dataplane()
        self.plane.swap(ServingTable(3, routes))

    def manifest_of(self, name: str, _selector: object = None) -> Manifest | None:
        return self.manifests.get(name)

    def replan(self, found: dict[Member, ServedRelease]) -> Plan | str:
        def of(name: str, selector: object) -> Manifest:
            return found[Member(name, selector)].manifest

        plan, problems = plan_pipeline("p", self.plan.config, of, Path)
        return problems[0][1] if problems else plan


def planned(text: str, **manifests) -> tuple[Plan | None, list[tuple[str, str]]]:
    """The plan of a pipeline, and its problems."""
    return plan_pipeline("p", config_of(text), lambda name, _: manifests.get(name), Path)
