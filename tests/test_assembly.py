"""The part that loads models, put together as the daemon has it."""

from __future__ import annotations

from edged.assembly import make_manager
from edged.config.schema import Config, TrialConfig
from edged.generation.breaker import Breaker
from edged.serving.dressing import DressingLoader
from edged.store.findings import Findings
from edged.telemetry.health import Health


def test_everything_is_told_to_whom_it_concerns(tmp_path):
    health = Health()
    breaker = Breaker(tmp_path, health, TrialConfig)
    manager = make_manager(
        Config(),
        breaker,
        Findings.of(tmp_path),
        dress=lambda order: order,
        health=health,
        on_change=lambda: None,
    )
    assert isinstance(manager.loader, DressingLoader)
    assert manager.recovery.health is health
    assert manager.on_ready == breaker.on_ready
    assert manager.on_hopeless == breaker.on_hopeless
    manager.stop()
