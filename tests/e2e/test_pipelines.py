"""Pipelines in a real daemon: a model to every client, a whole to every reload."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError, InvalidRequestError
from edged.manifest import Tolerance
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.verdicts import check_config

BODY = """\
trust: {require_signatures: false}
models:
  twice: {bundle: twice-*.edgb}
  pick: {bundle: pick.edgb}
pipelines:
  both:
    release: 7
    inputs: {x: "float32[batch,6]"}
    steps:
    - {name: left, select: {from: x, stop: 4}}
    - {name: doubled, model: twice, inputs: left}
    - {name: right, select: {from: x, start: 4}}
    - {name: joined, concat: {from: [doubled, right]}}
    - {name: scaled, compute: joined / FACTOR}
    - {name: pick, model: pick, inputs: {features: scaled}}
    outputs: {label: pick.label, probabilities: pick.probabilities, scaled: scaled}
"""
X = np.arange(12, dtype=np.float32).reshape(2, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipelines")
    make_bundle(path / "twice-1.edgb", models.double(), name="twice")
    make_bundle(path / "pick.edgb", models.classifier(), name="pick")
    return path


def wanted(x: np.ndarray, twice: int = 2, factor: float = 10) -> dict[str, np.ndarray]:
    scaled = np.concatenate([x[:, :4] * np.float32(twice), x[:, 4:]], axis=1) / np.float32(factor)
    return {"scaled": scaled, **models.classifier().reference({"features": scaled})}


def same(got: dict, expected: dict) -> None:
    assert set(got) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, err_msg=name)


def test_a_pipeline_is_a_model_to_everybody(folder: Path):
    with running(folder, BODY.replace("FACTOR", "10")) as daemon, daemon.client() as client:
        result = client.infer("both", {"x": X})
        same(dict(result), wanted(X))
        assert result.release == 7
        same(dict(client.infer("both", {"x": X}, release=7)), wanted(X))
        call = client.prepare("both", {"x": ((None, 6), "float32")})
        for rows in (1, 2, 1, 1) * 4:
            same(dict(call.infer({"x": X[:rows]})), wanted(X[:rows]))
        with pytest.raises(InvalidRequestError, match=r"pipeline .*both.* release 7 wants float32"):
            client.infer("both", {"x": X[:, :5]})
        with pytest.raises(EdgedError, match="deadline"):
            client.infer("both", {"x": X}, timeout=1e-9)
        found = next(model for model in client.models() if model["name"] == "both")
        assert found["ready"]
        assert found["inputs"][0]["shape"] == ["batch", 6]
        status = client.status()
        line = next(one for one in status["releases"] if one["model"] == "both")
        assert line["state"] == "ready"
        assert line["requests"] == 18
        steps = {step["step"]: step for step in line["steps"]}
        assert list(steps) == ["left", "doubled", "right", "joined", "scaled", "pick"]
        assert steps["doubled"]["done"] == 18
        assert steps["doubled"]["mean_us"] > 0
        text = client.call("metrics")
        assert 'edged_step_duration_seconds_count{model="both",release="7",step="pick"} 18' in text
        done = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", daemon.socket, "both@7",
             json.dumps(X[:1].tolist())],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout)["rows"][0]["label"] == int(wanted(X[:1])["label"][0])


def test_a_reload_swaps_it_as_a_whole_or_not_at_all(folder: Path):
    with running(folder, BODY.replace("FACTOR", "10")) as daemon, daemon.client() as client:
        before = client.status()["generation"]
        daemon.write(BODY.replace("FACTOR", "4"))
        wait_for(lambda: client.status()["generation"] > before)
        same(dict(client.infer("both", {"x": X})), wanted(X, factor=4))
        daemon.write(BODY.replace("FACTOR", "left"))
        wait_for(lambda: not client.status()["config"]["applied"])
        (problem,) = client.status()["config"]["problems"]
        assert "edged.yaml:17:31: pipelines.both.steps[4].compute: " in problem
        assert '"/": shapes [batch,6] and [batch,4] do not go together' in problem
        same(dict(client.infer("both", {"x": X})), wanted(X, factor=4))


@pytest.mark.slow
def test_another_release_of_a_model_comes_with_it(folder: Path):
    with running(folder, BODY.replace("FACTOR", "10")) as daemon, daemon.client() as client:
        same(dict(client.infer("both", {"x": X})), wanted(X))
        path = folder / "twice-2.edgb"
        make_bundle(path, models.double(factor=3), name="twice", release=2)
        try:
            wait_for(lambda: dict(client.infer("both", {"x": X}))["scaled"][0, 1] > 0.25)
            same(dict(client.infer("both", {"x": X})), wanted(X, twice=3))
        finally:
            path.unlink()


CHECKS = {
    "- {name: right, select: {from: y, start: 4}}": (
        'steps[2].select.from: nothing is named "y"; there are x, left,'
    ),
    "- {name: right, select: {from: x, start: 5}}": (
        'steps[5].inputs.features: is float32[batch,5]; model "pick" wants float32[batch,6]'
    ),
    "- {name: right, compute: int64(x)}": (
        "steps[3].concat.from[1]: is int64[batch,6], which cannot be joined to float32[batch,4]"
    ),
    "- {name: right, select: {from: pick.probabilities}}": (
        "steps: wait for each other: right, joined, scaled, pick;"
    ),
    "- {name: right, model: pik}": 'steps[2].model: no model is named "pik" (did you mean "pick"?)',
    "- {name: right, use: nothing}": 'steps[2].use: no installed package has a step "nothing"',
    "- {name: right, select: {from: x, start: 4}, when: x > 0}": (
        "steps[2].when: is bool[batch,6]; expected one truth"
    ),
    "- {name: right, select: {from: x, start: 4}, when: max(x) > 0}": (
        'outputs.label: may be missing, because step "right" has when'
    ),
    "- {name: right, select: {from: x, start: 4}, compute: x}": (
        "steps[2]: needs exactly one of model, compute, select, concat,"
    ),
}


@pytest.mark.parametrize("step", CHECKS)
def test_check_says_what_does_not_fit_and_where(folder: Path, tmp_path: Path, step: str):
    text = BODY.replace("FACTOR", "10").replace(
        "- {name: right, select: {from: x, start: 4}}", step
    )
    file = tmp_path / "edged.yaml"
    file.write_text(text.replace("bundle: ", f"bundle: {folder}/"))
    problems, _ = check_config(file, with_files=True)
    assert any(f"pipelines.both.{CHECKS[step]}" in problem for problem in problems), problems
    assert all(str(file) in problem for problem in problems)


def test_over_mqtt(folder: Path):
    with Mosquitto(folder) as broker:
        body = (
            BODY.replace("FACTOR", "10")
            + f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nbindings:\n"
            "- {name: both, from: in/both, to: out/both, model: both@7}\n"
        )
        with running(folder, body) as daemon:
            wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
            with Device(broker, "out/both", "edged/+/error/both") as device:
                device.publish("in/both", json.dumps({"inputs": {"x": X.tolist()}}))
                answer = json.loads(device.one().payload)
                device.publish("in/both", json.dumps({"inputs": {"x": [[1, 2]]}}))
                refused = json.loads(device.one().payload)
    expected = wanted(X)
    assert answer["release"] == 7
    for row, label, scaled in zip(
        answer["rows"], expected["label"], expected["scaled"], strict=True
    ):
        assert row["label"] == label
        np.testing.assert_allclose(row["scaled"], scaled, rtol=1e-5)
    assert "x" in json.dumps(refused)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_more_models_than_memory(tmp_path: Path):
    """Models are loaded and sent away while requests stand between two of them."""
    names = [f"m{number}" for number in range(4)]
    made = {name: models.heavy(seed) for seed, name in enumerate(names)}
    close = Tolerance(atol=1e-3, rtol=1e-3)
    for name, model in made.items():
        make_bundle(tmp_path / f"{name}.edgb", model, name=name, tolerance=close)
    spec = made["m0"].inputs[0].spec()
    body = "trust: {require_signatures: false}\nmemory: {budget: 48MiB}\nmodels:\n"
    body += "".join(f"  {n}: {{bundle: {n}.edgb, memory: {{load: lazy}}}}\n" for n in names)
    body += f'pipelines:\n  all:\n    inputs: {{x: "{spec}"}}\n    steps:\n'
    body += "".join(f"    - {{name: s_{n}, model: {n}, inputs: x}}\n" for n in names)
    body += f"    outputs: {{{', '.join(f'{n}: s_{n}' for n in names)}}}\n"

    def ask(seed: int) -> None:
        with daemon.client(timeout=60) as client:
            for rows in (1, 2, 3):
                x = made["m0"].sample(rows + seed)["x"]
                result = client.infer("all", {"x": x})
                for name, model in made.items():
                    wanted = model.reference({"x": x})["y"]
                    np.testing.assert_allclose(result[name], wanted, atol=1e-3, rtol=1e-3)

    with running(tmp_path, body) as daemon:
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(ask, range(3)))
        status = daemon.status()
    assert sum(r["memory"]["evictions"] for r in status["releases"] if "memory" in r) > 0


@pytest.mark.slow
def test_a_model_in_a_worker_that_dies(folder: Path):
    body = BODY.replace("FACTOR", "10").replace(
        "pick: {bundle: pick.edgb}", "pick: {bundle: pick.edgb, isolation: model}"
    )

    said: list[str] = []

    def answer() -> dict | None:
        try:
            return dict(client.infer("both", {"x": X}))
        except EdgedError as exc:
            said.append(exc.message)
            return None

    with running(folder, body) as daemon, daemon.client() as client:
        same(dict(client.infer("both", {"x": X})), wanted(X))
        (worker,) = [r["worker_pid"] for r in client.status()["releases"] if r["worker_pid"]]
        os.kill(worker, signal.SIGKILL)
        same(wait_for(answer), wanted(X))
    assert all("both" in message for message in said)
