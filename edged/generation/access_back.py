"""Who may ask again because a generation came back: rights that the files do not give any more.

Decides what is told of it. The rights themselves are those of the generation, whole: it proved good
with them, and what was worse may have been the very rules that came after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from edged.config.access import RuleConfig
from edged.config.load import Snapshot, load
from edged.config.problems import ConfigProblemsError
from edged.telemetry.health import Health


def rights_again(back: Snapshot, now: Snapshot) -> str:
    """What the rules of a generation allow that those of the configuration after it may not."""
    old, new = back.config.access.rules, now.config.access.rules
    if new is None or old == new:
        return ""
    if old is None:
        return "whoever may connect may ask for every model again (access.rules)"
    again = [_in_words(rule) for rule in old if rule not in new]
    return f"these access.rules count again: {'; '.join(again)}" if again else ""


async def tell_access(snapshot: Snapshot, config_path: Path, health: Health) -> None:
    """Say in the log and the status where a generation that came back allows more than the files.

    Of broken files it is not known.
    """
    said = ""
    if snapshot.kept is not None:
        said = await asyncio.to_thread(_more_than_the_files, snapshot, config_path)
    if said and snapshot.kept is not None:
        number = snapshot.kept.generation
        health.degrade("access", f"generation {number} came back, with the rights it gives: {said}")
    else:
        health.restore("access")


def _more_than_the_files(snapshot: Snapshot, config_path: Path) -> str:
    try:
        return rights_again(snapshot, load(config_path))
    except ConfigProblemsError:
        return ""


def _in_words(rule: RuleConfig) -> str:
    who = " ".join(_askers(rule)) or "nobody"
    models = "" if rule.models == ("*",) else f" of {', '.join(rule.models)}"
    return f"{who}: {', '.join(rule.allow)}{models}"


def _askers(rule: RuleConfig) -> Iterator[str]:
    for kind in ("users", "groups", "certificates"):
        if names := getattr(rule, kind):
            yield f"{kind} {', '.join(names)}"
    if rule.tcp:
        yield "tcp"
