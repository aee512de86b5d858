"""The part of the house that loads and keeps models, put together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from edged.checks.budget import budgets_of
from edged.config.schema import Config
from edged.device.setting import device_setting
from edged.generation.breaker import Breaker
from edged.rollout.ledger import Ledger
from edged.runtimes.registry import create_runtime
from edged.serving.choosing.order import LoadOrder
from edged.serving.dataplane import Dataplane
from edged.serving.dressing import DressingLoader
from edged.serving.manager import Manager
from edged.serving.trial import TRIAL_NICE
from edged.store.findings import Findings
from edged.system.atomic import write_atomically
from edged.telemetry.health import Health
from edged.workers.forked import ForkedWorkers


def make_manager(
    config: Config,
    breaker: Breaker,
    found: Findings,
    *,
    dress: Callable[[LoadOrder], LoadOrder],
    health: Health,
    on_change: Callable[[], None],
) -> Manager:
    """The manager with its loader.

    Args:
        config: the configuration to begin with.
        breaker: told of what is ready and of what is hopeless.
        found: what was found out of releases before.
        dress: adds the engines that this device built; on the loader's thread.
        health: told of runtimes that stand in for others.
        on_change: called after what answers has changed.
    """
    threads = config.runtime.threads
    loader = DressingLoader(
        functools.partial(create_runtime, threads=threads),
        breaker.probation,
        config.trial,
        threads,
        measured=found.measured,
        device=device_setting,
        footprints=found.footprints,
        contests=found.contests,
        enter_trial=ForkedWorkers(TRIAL_NICE).enter_for,
        dress=dress,
    )
    threshold_ns = int(config.limits.inline_threshold)
    manager = Manager(loader, threshold_ns, on_change, budgets_of(config))
    manager.recovery.health = health
    manager.on_ready = breaker.on_ready
    manager.on_hopeless = breaker.on_hopeless
    return manager


def remember_rollouts(
    manager: Manager, state_dir: Path, dataplane: Dataplane, health: Health
) -> Manager:
    """Let the manager's rollouts go on where they were, and end by themselves."""
    ledger = Ledger(state_dir / "rollouts", write_atomically)
    ledger.read()
    manager.rollouts.active = lambda: dataplane.table.rollouts
    manager.rollouts.open(ledger, health, manager.stored_of, manager.changed)
    return manager
