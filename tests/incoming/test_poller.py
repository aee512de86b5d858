"""When sources are asked, and what the status says of it; pulls themselves: test_pulling.py."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from edged.config.schema import Config, ModelConfig
from edged.config.sources import SourceConfig
from edged.incoming import poller as module
from edged.incoming.poller import Outcome, Poller, run_pull, wait_s
from edged.specs import Duration
from edged.system.cores import Stay
from edged.telemetry.health import Health
from tests.fakes.clock import on_loop, until

HOUR = 3600.0


@pytest.mark.parametrize(
    ("failures", "retry_after_s", "luck", "seconds"),
    [
        (0, 0, 0, 0.9 * HOUR), (0, 0, 1, 1.1 * HOUR), (0, 0, 0.5, HOUR), (1, 0, 0.5, 30.0),
        (2, 0, 0.5, 60.0), (3, 0, 1, 132.0), (1000, 0, 0.5, HOUR), (1, 120, 0.5, 120.0),
        (1, 86400, 0.5, 86400.0), (0, 500, 0.5, HOUR),
    ],
)  # fmt: skip
def test_when_it_is_asked_again(failures: int, retry_after_s: float, luck: float, seconds: float):
    assert wait_s(HOUR, failures, retry_after_s, luck) == pytest.approx(seconds)


def test_a_source_that_is_asked_often_is_not_asked_oftener_when_it_fails():
    assert wait_s(10.0, 9, 0, 0.5) == 10.0


def config(poll_s: float = HOUR, **pulls: str | None) -> Config:
    source = SourceConfig(kind="oci", url="https://r.example", poll=Duration(int(poll_s * 1e9)))
    models = {name: ModelConfig(bundle="b", pull=pull) for name, pull in pulls.items()}
    return Config(sources={"r": source}, models=models)


class Desk:
    """A poller whose pulls a test answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.health = Health()
        self.poller = Poller(Path("/etc/x"), Path("/state"), self.health, luck=lambda: 0.0)
        self.asked: list[str] = []
        self.at_once = self.most = 0
        self.answers: dict[str, Outcome] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        monkeypatch.setattr(module, "run_pull", self._run)

    async def _run(self, _config: Path, _state: Path, model: str) -> Outcome:
        self.asked.append(model)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return self.answers.get(model, Outcome("current", "it is here"))

    def shown(self, model: str) -> dict[str, object]:
        return next(one for one in self.poller.as_list() if one["model"] == model)

    async def settled(self, count: int) -> None:
        await until(lambda: len(self.asked) == count and not self.at_once)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@on_loop
async def test_all_are_asked_one_after_another(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)
    desk.poller.follow(config(a="r/a", b="r/b:1", c=None))
    await desk.settled(2)
    assert (sorted(desk.asked), desk.most) == (["a", "b"], 1)
    shown = desk.shown("b")
    assert (shown["pull"], shown["state"], shown["failures"]) == ("r/b:1", "current", 0)
    assert 0.85 * HOUR < shown["next_in_s"] <= 0.9 * HOUR  # type: ignore[operator]
    assert desk.health.degradations() == {}
    desk.poller.stop()


@on_loop
async def test_what_fails_is_said_and_tried_soon(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)
    desk.answers["a"] = Outcome("failed", "r.example: not now (503)", retry_after_s=600.0)
    desk.poller.follow(config(a="r/a"))
    await desk.settled(1)
    assert desk.health.degradations() == {"pull.a": "r/a: r.example: not now (503)"}
    assert 590 < desk.shown("a")["next_in_s"] <= 600  # type: ignore[operator]
    # A look at the configuration does not make it come back sooner, nor lets it be forgotten.
    desk.poller.follow(config(a="r/a"))
    assert 590 < desk.shown("a")["next_in_s"] <= 600  # type: ignore[operator]
    desk.answers["a"] = Outcome("installed", "m-3.edgb: release 3 of m")
    desk.poller.follow(config(a="r/a:other"))
    await desk.settled(2)
    assert desk.health.degradations() == {}
    assert desk.shown("a")["text"] == "m-3.edgb: release 3 of m"
    desk.poller.stop()


@on_loop
async def test_what_is_counted(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)
    desk.answers["a"] = Outcome("failed", "away", bytes=10)
    desk.poller.follow(config(a="r/a"))
    await desk.settled(1)
    assert (desk.shown("a")["bytes"], desk.shown("a")["good_ago_s"]) == (10, None)
    desk.answers["a"] = Outcome("installed", "m-3.edgb", bytes=30)
    desk.poller._polled["a"].due_s = 0.0
    desk.poller._arm()
    await desk.settled(2)
    assert desk.shown("a")["ended"] == {"installed": 1, "current": 0, "failed": 1}
    assert desk.shown("a")["bytes"] == 40
    assert desk.shown("a")["good_ago_s"] is not None
    desk.poller.stop()


@on_loop
async def test_what_fails_as_nobody_thought_is_not_tried_at_once(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)

    async def fail(_config: Path, _state: Path, model: str) -> Outcome:
        desk.asked.append(model)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "run_pull", fail)
    desk.poller.follow(config(a="r/a"))
    await until(lambda: desk.shown("a")["state"] == "failed")
    assert desk.asked == ["a"]
    assert desk.shown("a")["next_in_s"] > 20  # type: ignore[operator]
    assert "can't start new thread" in desk.health.degradations()["pull.a"]
    desk.poller.stop()


@on_loop
async def test_a_model_that_asks_no_more(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)
    desk.answers["a"] = Outcome("failed", "away")
    desk.poller.follow(config(a="r/a"))
    await desk.settled(1)
    desk.poller.follow(config(a=None))
    assert (desk.poller.as_list(), desk.health.degradations()) == ([], {})
    desk.gate.clear()
    desk.poller.follow(config(a="r/a"))
    await until(lambda: len(desk.asked) == 2)
    assert desk.shown("a")["state"] == "pulling"
    desk.poller.follow(config(a=None))
    desk.gate.set()
    await desk.settled(2)
    assert desk.health.degradations() == {}, "what it comes to concerns nobody now"
    desk.poller.stop()


@on_loop
async def test_a_shorter_time_counts_at_once(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(monkeypatch)
    desk.poller.follow(config(a="r/a"))
    await desk.settled(1)
    desk.poller.follow(config(60.0, a="r/a"))
    assert desk.shown("a")["next_in_s"] <= 66  # type: ignore[operator]
    desk.poller.stop()
    desk.poller.follow(config(a="r/new"))
    await asyncio.sleep(0.01)
    assert len(desk.asked) == 1, "nothing after the end"


class TestProcess:
    """What the process says, whatever it is."""

    def run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, stay: Stay | None = None
    ) -> Outcome:
        program = tmp_path / "python"
        program.write_text(f"#!{sys.executable}\nimport os, sys\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(program))

        async def pull() -> Outcome:
            if stay is not None:
                assert stay.at(min(os.sched_getaffinity(0)))
            try:
                return await run_pull(tmp_path, tmp_path / "state", "m")
            finally:
                if stay is not None:
                    stay.leave()

        return asyncio.run(pull())

    def test_its_words_and_surroundings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/secrets")
        monkeypatch.setenv("BROKER_PASSWORD", "secret")
        script = (
            "import json\nwords = ' '.join(sys.argv[1:])\n"
            "seen = sorted(n for n in os.environ if n.endswith(('DIRECTORY', 'PASSWORD')))\n"
            "print(json.dumps({'state': 'current', 'text': f'{words} {seen}'}))"
        )
        said = self.run(tmp_path, monkeypatch, script)
        assert f"-s -m edged bundle pull --model m --json --config {tmp_path}" in said.text
        assert said.text.endswith("['CREDENTIALS_DIRECTORY', 'STATE_DIRECTORY']")

    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a stay needs two cores")
    def test_it_stays_on_no_core_with_the_loop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        before = os.sched_getaffinity(0)
        script = (
            "import time\n"
            "until = time.monotonic() + 10\n"
            "while len(os.sched_getaffinity(0)) < 2 and time.monotonic() < until:\n"
            "    time.sleep(0.02)\n"
            "text = sorted(os.sched_getaffinity(0))\n"
            'print(\'{"state": "current", "text": "%s"}\' % text)'
        )
        assert self.run(tmp_path, monkeypatch, script, Stay()).text == str(sorted(before))

    @pytest.mark.parametrize(
        ("script", "text"),
        [
            ("", "ended without a word (exit status 0)"), ("sys.exit(3)", "exit status 3"),
            ("os.kill(os.getpid(), 9)", "signal 9"), ("print('junk')", "without a word"),
            ("print('{}')", "without a word"), ("print('x' * 10**6)", "without a word"),
        ],
    )  # fmt: skip
    def test_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str):
        outcome = self.run(tmp_path, monkeypatch, script)
        assert outcome.state == "failed"
        assert text in outcome.text

    def test_it_cannot_be_started(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(module.sys, "executable", str(tmp_path / "none"))
        outcome = asyncio.run(run_pull(tmp_path, tmp_path, "m"))
        assert "cannot be started" in outcome.text
