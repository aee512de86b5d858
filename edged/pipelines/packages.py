"""Steps of packages that the operator has installed: entry points of the group ``edged.steps``.

An entry point names a function that takes the step's ``options`` and returns a ``Step``. Nothing of
a bundle is ever looked up here: code comes with the operator's own ``pip install`` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edged.config.problems import did_you_mean
from edged.errors import FieldError, RunError
from edged.pipelines.step import Step, Values, Work
from edged.tensors import DTYPES, Array, TensorSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("edged.pipelines")

GROUP = "edged.steps"


def installed() -> dict[str, EntryPoint]:
    """The steps of installed packages, by name."""
    from importlib import metadata  # noqa: PLC0415 - brings email along, which nobody else needs

    return {entry.name: entry for entry in metadata.entry_points(group=GROUP)}


def package_work(name: str, options: Mapping[str, Any], reads: Mapping[str, str]) -> Work:
    """A step of an installed package.

    Raises:
        FieldError: there is none of that name, or it does not take the options.
    """
    known = installed()
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        near = did_you_mean(name, sorted(known))
        raise FieldError(
            "use",
            f'no installed package has a step "{name}"{near}; installed: {listed} '
            f"(a package gives one with an entry point of the group {GROUP})",
        )
    try:
        step: Step = known[name].load()(dict(options))
    except (Exception, SystemExit) as exc:  # whatever the package's own code raises is its answer
        log.warning('step "%s" could not be made', name, exc_info=exc)
        raise FieldError("options", f'step "{name}" refuses them: {_said(exc)}') from exc

    rows_in: list[str] = []
    rows_out: list[str] = []

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        try:
            made = tuple(step.outputs(dict(inputs)))
        except (Exception, SystemExit) as exc:
            raise FieldError("inputs", f'step "{name}" refuses them: {_said(exc)}') from exc
        if not made or any(
            not isinstance(one, TensorSpec) or one.dtype not in DTYPES for one in made
        ):
            raise FieldError("use", f'step "{name}" foretells no tensors; that is its own fault')
        rows_in[:] = [key for key, spec in inputs.items() if spec.is_batched]
        rows_out[:] = [spec.name for spec in made if spec.is_batched] if rows_in else []
        return made

    def run(values: Values) -> Values:
        guarded = {key: _read_only(array) for key, array in values.items()}
        made = {key: np.asarray(array) for key, array in step.run(guarded).items()}
        for key in rows_out:
            if key in made:
                _check_rows(key, made[key], values[rows_in[0]].shape[0])
        return made

    return Work(dict(reads), outputs, run, is_slow=True, is_foreign=True)


def _check_rows(name: str, made: Array, rows: int) -> None:
    """Hold the step to a row for each row: who asked reads them as its own, in their order."""
    if made.shape[:1] != (rows,):
        got = f"{made.shape[0]} rows" if made.shape else "no rows"
        raise RunError(f'made {got} of {rows} for "{name}", where it promised a row for each')


def _read_only(array: Array) -> Array:
    """The same numbers, for code that is not to change what other steps and requests see."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def _said(exc: BaseException) -> str:
    return f"{exc}" if isinstance(exc, ValueError) else f"{type(exc).__name__}: {exc}"
