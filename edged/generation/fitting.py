"""Which bindings of a configuration can serve, and which may wait for their model.

Pure but for ``prepare``, which says whether bindings fit; decides nothing about messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.problems import ConfigProblemsError
from edged.errors import FieldError
from edged.manifest import ManifestOf

Prepare = Callable[[Snapshot, Sequence[BindingConfig], ManifestOf], Any]
"""Makes bindings that could serve; raises FieldError with ``bindings[i]...``."""


def fit_possible(
    prepare: Prepare, snapshot: Snapshot, of: ManifestOf
) -> tuple[Any, dict[str, str]]:
    """At boot: the bindings that work.

    Returns:
        What ``prepare`` made of them, and by name why each of the others cannot serve yet.
    """
    reasons = {
        binding.name: reason
        for binding in snapshot.config.bindings
        if (reason := _misfit(prepare, snapshot, binding, of))
    }
    possible = [one for one in snapshot.config.bindings if one.name not in reasons]
    return prepare(snapshot, possible, of), reasons


def fit_all(
    prepare: Prepare, snapshot: Snapshot, may_wait: Collection[BindingConfig], of: ManifestOf
) -> tuple[Any, dict[str, str]]:
    """For a change: every binding works, or the change is refused.

    Args:
        prepare: makes them.
        snapshot: the configuration.
        may_wait: bindings that wait for their model already; that is no fault of this change.
        of: the manifests as they will be.

    Returns:
        As ``fit_possible``.

    Raises:
        ConfigProblemsError: one cannot serve.
    """
    bindings = snapshot.config.bindings
    reasons = {
        index: reason
        for index, binding in enumerate(bindings)
        if binding in may_wait and (reason := _misfit(prepare, snapshot, binding, of))
    }
    fitting = [index for index in range(len(bindings)) if index not in reasons]
    try:
        prepared = prepare(snapshot, [bindings[index] for index in fitting], of)
    except FieldError as exc:
        problem = snapshot.problem(renumbered(exc.path, fitting), exc.reason)
        raise ConfigProblemsError((problem,)) from exc
    return prepared, {bindings[index].name: reason for index, reason in reasons.items()}


def _misfit(prepare: Prepare, snapshot: Snapshot, binding: BindingConfig, of: ManifestOf) -> str:
    try:
        prepare(snapshot, [binding], of)
    except FieldError as exc:
        return exc.reason
    return ""


def renumbered(path: str, numbers: Sequence[int]) -> str:
    """``bindings[i]...`` of a selection as it stands in the configuration."""
    match = re.match(r"bindings\[([0-9]+)\]", path)
    return f"bindings[{numbers[int(match[1])]}]{path[match.end() :]}" if match else path
