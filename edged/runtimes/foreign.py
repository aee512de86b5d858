"""A runtime out of an installed package, held to the contract: what it raises and what it returns.

Decides nothing about models. Whatever the package's code raises becomes an error of ours with the
model's name and without paths; outputs are the promised ones, of the promised dtypes, or an error.
What its process does to it otherwise (a crash, a hang) is for trials and ``isolation`` to hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np

from edged import decoding
from edged.errors import EdgedError, LoadError, RunError
from edged.manifest import ArtefactEntry
from edged.runtimes.absence import why_not
from edged.runtimes.base import Artefact, BoundRun, Runtime, RuntimeInfo, Session
from edged.runtimes.installed import Offer, entry_of
from edged.runtimes.loss import run_error
from edged.runtimes.onnxruntime import clean
from edged.runtimes.signature import check_fit, check_names
from edged.tensors import DTYPES, Array, TensorSpec

log = logging.getLogger("edged.runtimes")

_FEARED = 8
"""Times the file: for a package whose own estimate cannot be had."""
_SESSION_BYTES = 64 << 20


def describe(name: str) -> Offer:
    """Import a runtime here, ask it what it is, and hold that against the contract."""
    try:
        package = entry_of(name)[1]
    except LookupError as exc:
        return Offer(name, problem=str(exc))
    try:
        runtime = _make(name, threads=1)
        offer = _ask(name, package, runtime)
        # Our own caps and patterns: what does not pass them here would not pass at the parent.
        return decoding.convert(msgspec.to_builtins(offer), Offer)
    except LoadError as exc:
        return Offer(name, package, problem=exc.message[:1000])
    except BaseException as exc:
        why = f"{package} does not say what it is ({_said(exc)}); ask whom it comes from"
        return Offer(name, package, problem=why[:1000])


def _ask(name: str, package: str, runtime: Any) -> Offer:
    known = [one for one in get_args(get_type_hints(ArtefactEntry)["runtime"]) if one != "pipeline"]
    kinds = getattr(runtime, "kinds", ())
    if not isinstance(kinds, tuple) or not set(kinds) & set(known):
        raise LoadError(
            f"{package} is no runtime of this edged: its kinds are {str(kinds)[:64]}, expected a "
            f"tuple with one or more of {', '.join(known)}"
        )
    info: RuntimeInfo = runtime.info()
    return Offer(
        name,
        package,
        tuple(kind for kind in kinds if kind in known),
        getattr(runtime, "device", "cpu"),
        getattr(runtime, "computes_in", ""),
        "" if info.problem else _version(info, package),
        () if info.problem else tuple(info.devices),
        info.note[:400],
        clean(f"{package}: {info.problem}") if info.problem else "",
    )


def _version(info: RuntimeInfo, package: str) -> str:
    """Whose measurements and trials are whose is told by it, so that it is never empty."""
    return " ".join(str(info.version).split())[:64] or package.partition(" ")[2] or "unversioned"


def _make(name: str, *, threads: int) -> Runtime:
    """Import a package's runtime into this process and make it.

    Raises:
        LoadError: whatever went wrong, in words.
    """
    try:
        entry, package = entry_of(name)
    except LookupError as exc:
        raise LoadError(str(exc)) from exc
    try:
        factory = entry.load()
    except BaseException as exc:
        log.warning("runtime %s could not be imported", name, exc_info=exc)
        raise LoadError(
            f"{package} {why_not(entry.module, exc)}; install what it needs: "
            f"pip install --upgrade {package.partition(' ')[0]}"
        ) from exc
    try:
        made: Runtime = factory(threads=threads)
    except BaseException as exc:
        log.warning("runtime %s could not be made", name, exc_info=exc)
        raise LoadError(f"{package} cannot be made ({_said(exc)}); ask whom it comes from") from exc
    return made


class ForeignRuntime:
    """The runtime of a package, from outside.

    Args:
        name: of its entry point.
        threads: of one run; 0 for one a core.
        offer: what is known of it; asked when needed.
    """

    def __init__(self, name: str, *, threads: int, offer: Callable[[str], Offer]) -> None:
        self.name = name
        self._threads = threads
        self._offer = offer
        self._made: Runtime | None = None

    def info(self) -> RuntimeInfo:
        """As it was told when somebody looked; nothing is imported here."""
        offer = self._offer(self.name)
        return RuntimeInfo(self.name, offer.version, offer.devices, offer.problem, offer.note)

    def estimate_bytes(self, artefact: Artefact) -> int:
        """Upper bound of what loading takes: the package's own, or what is to be feared."""
        size = len(artefact.data) + sum(map(len, artefact.sidecars.values()))
        try:
            return max(int(self._inner().estimate_bytes(artefact)), size)
        except BaseException as exc:
            log.warning("runtime %s gives no estimate: %s", self.name, _said(exc))
            return _FEARED * size + _SESSION_BYTES

    def load(self, artefact: Artefact) -> ForeignSession:
        """Load with the package, and hold the session's signature against the artefact's.

        Raises:
            LoadError: whatever it raised, or another signature than promised.
        """
        where = f'model "{artefact.model}"'
        runtime = self._inner()
        try:
            session = runtime.load(artefact)
        except EdgedError:
            raise
        except BaseException as exc:
            log.warning("%s: runtime %s failed", where, self.name, exc_info=exc)
            raise LoadError(f"{where}: {self.name} refuses it: {_said(exc)}") from exc
        try:
            return ForeignSession(session, where, artefact)
        except BaseException as exc:
            _close(session, where)
            if isinstance(exc, LoadError):
                raise
            raise LoadError(
                f"{where}: what {self.name} loads is no session ({_said(exc)})"
            ) from exc

    def _inner(self) -> Runtime:
        if self._made is None:
            if problem := self._offer(self.name).problem:
                raise LoadError(problem)
            self._made = _make(self.name, threads=self._threads)
        return self._made


class ForeignSession:
    """A session of a package.

    Args:
        session: the package's.
        where: the model, for messages.
        artefact: what it was loaded from.

    Raises:
        LoadError: another signature than promised.
    """

    def __init__(self, session: Session, where: str, artefact: Artefact) -> None:
        self._where = where
        self.inputs = _match(where, "input", artefact.inputs, session.inputs)
        self.outputs = _match(where, "output", artefact.outputs, session.outputs)
        self._promised = [
            (spec.name, DTYPES[spec.dtype].numpy, len(spec.shape)) for spec in artefact.outputs
        ]
        self._session: Session | None = session

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Raises:
            RunError: it failed, or gave something else than it promised.
        """
        session = self._session
        if session is None:
            raise self._failed("the session is closed")
        try:
            got = session.run(inputs)
        except EdgedError:
            raise
        except BaseException as exc:
            raise self._failed(_said(exc)) from exc
        outputs = {}
        for name, dtype, rank in self._promised:
            array = got.get(name) if isinstance(got, Mapping) else None
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != rank:
                what = (
                    f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else "none"
                )
                raise self._failed(f'output "{name}" is {what}; the bundle promises {dtype} with '
                                   f"{rank} axes")  # fmt: skip
            outputs[name] = array
        return outputs

    def bind(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> ForeignBoundRun | None:
        """Fix where runs read and write; None where the package does not.

        Raises:
            RunError: these tensors cannot be bound.
        """
        if self._session is None:
            raise RunError(f"{self._where}: the session is closed")
        bind = getattr(self._session, "bind", None)
        try:
            bound = None if bind is None else bind(inputs, outputs)
        except EdgedError:
            raise
        except BaseException as exc:
            raise RunError(f"{self._where}: cannot bind its tensors: {_said(exc)}") from exc
        return None if bound is None else ForeignBoundRun(bound, self._where)

    def close(self) -> None:
        """Close the package's session; what that raises is logged."""
        session, self._session = self._session, None
        if session is not None:
            _close(session, self._where)

    def _failed(self, why: str) -> RunError:
        return run_error(f"{self._where} failed while running: {why}")


class ForeignBoundRun:
    """A bound run of a package.

    Args:
        bound: the package's.
        where: the model, for messages.
    """

    def __init__(self, bound: BoundRun, where: str) -> None:
        self._run, self._where = bound.run, where

    def run(self) -> None:
        """Read the inputs, write the outputs.

        Raises:
            RunError: it failed.
        """
        try:
            self._run()
        except EdgedError:
            raise
        except BaseException as exc:
            raise run_error(f"{self._where} failed while running: {_said(exc)}") from exc


def _match(where: str, side: str, promised: Any, declared: Any) -> tuple[TensorSpec, ...]:
    """The declared signature of the promised tensors, in the promised order.

    Raises:
        LoadError: it is another one.
    """
    by_name: dict[str, TensorSpec] = {spec.name: spec for spec in declared}
    check_names(where, side, promised, by_name)
    for spec in promised:
        check_fit(where, side, spec, by_name[spec.name])
    return tuple(by_name[spec.name] for spec in promised)


def _close(session: Session, where: str) -> None:
    try:
        session.close()
    except BaseException as exc:
        log.warning("%s: its session did not close: %s", where, _said(exc))


def _said(exc: BaseException) -> str:
    """One line of an exception, without paths."""
    return clean(f"{type(exc).__name__}: {exc}")
