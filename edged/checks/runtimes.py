"""Whether the runtimes that a configuration names are there.

Asks for names alone: nothing is imported. What cannot be used by now, built in or of a package, is
a runtime none the less: ``unmet.py`` and each load say why, and the next of the list is tried.
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.problems import did_you_mean, field_path
from edged.config.schema import Config
from edged.runtimes.installed import installed_names
from edged.runtimes.registry import RUNTIME_NAMES

Found = tuple[str, str]
"""A field path and what is wrong with it."""


def check_runtimes(config: Config) -> Iterator[Found]:
    """Every runtime of a model that is neither built in nor given by an installed package."""
    installed: list[str] | None = None
    for name, model in config.models.items():
        if isinstance(model.runtime, str):  # all there are
            continue
        for index, runtime in enumerate(model.runtime):
            if runtime in RUNTIME_NAMES:
                continue
            if installed is None:
                installed = installed_names()
            path = field_path(field_path(field_path("models", name), "runtime"), index)
            if runtime not in installed:
                near = did_you_mean(runtime, [*RUNTIME_NAMES, *installed])
                known = ", ".join(RUNTIME_NAMES)
                listed = ", ".join(installed) or "none"
                text = f'no runtime is called "{runtime}"{near}; built in: {known}'
                yield path, f"{text}; of installed packages: {listed}"
