"""Which models this box would not serve on the runtime that they ask for first; ``edged check``.

Pure but for asking each runtime that a configuration names; an answer is no promise: a runtime may
still refuse a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edged.config.problems import Problem, field_path
from edged.config.snapshot import Snapshot
from edged.loading import find_entries
from edged.manifest import Manifest
from edged.runtimes.base import RuntimeInfo
from edged.runtimes.registry import APART, create_runtime, is_runtime, kinds_of

Ask = Callable[[str], RuntimeInfo]


def ask_runtime(name: str) -> RuntimeInfo:
    """What a runtime says of itself here; imports its package."""
    return create_runtime(name, threads=1).info()


def unmet_preferences(
    snapshot: Snapshot,
    manifests: Mapping[str, Mapping[int, Manifest]],
    ask: Ask = ask_runtime,
) -> list[Problem]:
    """For each model whose first runtime cannot serve it here: why, and what will be instead.

    Args:
        snapshot: the configuration.
        manifests: by model and release, what its bundles promise.
        ask: what a runtime says of itself.
    """
    infos: dict[str, RuntimeInfo] = {}

    def problem_of(name: str, found: Sequence[Manifest]) -> str:
        if name not in infos:
            infos[name] = ask(name)
        if infos[name].problem:
            return infos[name].problem
        without = [one for one in found if not find_entries(one, name)]
        if not without:
            return ""
        what = f"{' or '.join(kinds_of(name))} artefact"
        if name in APART:
            what = "engine that was built for this device"
        return f"release {without[-1].release} has no {what}"

    problems = []
    for model, config in snapshot.config.models.items():
        # A choice that is made later is none yet.
        listed = config.runtime if not isinstance(config.runtime, str) else ()
        names = [name for name in listed if is_runtime(name)]
        found = [one for _, one in sorted(manifests.get(model, {}).items())]
        why = problem_of(names[0], found) if names else ""
        if not why:
            continue
        path = field_path(field_path("models", model), "runtime")
        rest = names[1:] if config.fallback == "allow" else []
        next_one = next((name for name in rest if not problem_of(name, found)), "")
        if next_one:
            what = f"{next_one} serves instead"
        elif config.fallback == "deny" and names[1:]:
            what = "it will not be served (fallback: deny)"
        else:
            what = "it will not be served"
        problems.append(snapshot.problem(path, f"{names[0]} cannot be used here: {why}; {what}"))
    return problems
