"""Releases that a rollout names: there, and of one signature."""

from __future__ import annotations

import msgspec
import pytest

from edged.config.rollout import RolloutConfig
from edged.manifest import TensorEntry
from edged.rollout.fit import unfit
from edged.specs import FeaturesInput
from tests.fakes.model import doubler

ONE, TWO = doubler(release=1), doubler(release=2)
OTHER = msgspec.structs.replace(TWO, outputs=(TensorEntry("z", "float32", ("batch", 4)),))

COLUMNS = [FeaturesInput(("a", "b", name, "d")) for name in "cx"]
NAMED, RENAMED = (
    msgspec.structs.replace(one, input_processing={"x": columns})
    for one, columns in zip((ONE, TWO), COLUMNS, strict=True)
)


def section(**fields: object) -> RolloutConfig:
    return msgspec.convert({"stable": 1, **fields}, RolloutConfig)


CANARY = section(canary={"release": 2, "trafficPercent": 5}, shadow={"release": 3})
AB = section(ab={"weights": {"1": 1, "2": 1}})

ROWS = {
    "all there": (AB, {1: ONE, 2: TWO}, []),
    "missing": (
        CANARY, {1: ONE},
        ["canary.release: release 2 is in none of the bundles; they hold: 1",
         "shadow.release: release 3 is in none of the bundles; they hold: 1"],
    ),
    "no stable": (AB, {2: TWO}, ["stable: release 1 is in none", "ab.weights.1: release 1 is"]),
    "other tensors": (AB, {1: ONE, 2: OTHER}, ["ab.weights.2: release 2 takes or gives other"]),
    "inputs made in another way": (
        AB, {1: NAMED, 2: RENAMED}, ["ab.weights.2: release 2 makes its inputs in another way"],
    ),
    "inputs made alike": (
        AB, {1: NAMED, 2: msgspec.structs.replace(RENAMED, input_processing={"x": COLUMNS[0]})}, [],
    ),
    "nothing": (AB, {}, ["stable: release 1 is in none of the bundles; they hold: none",
                         "ab.weights.1", "ab.weights.2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_fit(name: str):
    config, manifests, wanted = ROWS[name]
    found = [f"{field}: {text}" for field, text in unfit(config, manifests)]
    assert len(found) == len(wanted)
    for line, start in zip(found, wanted, strict=True):
        assert line.startswith(start)


def test_drift_needs_samples():
    config = section(canary={"release": 2, "trafficPercent": 5}, guard={"drift": 2.0})
    bare = msgspec.structs.replace(TWO, golden=None)
    assert list(unfit(config, {1: ONE, 2: bare})) == [
        ("guard.drift", "release 2 has neither statistics nor golden samples to hold it against")
    ]
