"""How the process begins; what it then does is test_daemon.py's and tests/e2e's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edged import boot
from edged.errors import STATUS, Code
from tests.fakes.site import Site


def test_a_configuration_that_cannot_be_read_is_an_exit_status(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = Site(tmp_path).write("models: {a: {bundle: none.edgb}}\nlisten: 7\n")
    assert boot.run(site.config, site.state) == STATUS[Code.FAILED_PRECONDITION].exit == 78
    assert "edged.yaml" in capfd.readouterr().err


def test_it_runs_on_the_loop_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[str] = []

    class Fake:
        def __init__(self, *_: object) -> None:
            import asyncio

            ran.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
            assert sys.getswitchinterval() < 0.001

        async def run(self) -> None:
            ran.append("ran")

    monkeypatch.setattr(boot, "Daemon", Fake)
    before = sys.getswitchinterval()
    site = Site(tmp_path)
    site.write(f"models: {{a: {{bundle: {site.bundle('a').name}}}}}\n")
    try:
        assert boot.run(site.config, site.state) == 0
    finally:
        sys.setswitchinterval(before)
    assert ran == ["uvloop", "ran"]
