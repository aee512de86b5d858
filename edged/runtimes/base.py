"""The contract between serving and any inference backend: two small protocols and their words."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edged.generating import Ask, Caps, Piece
from edged.tensors import Array, TensorSpec


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model file whose bytes were verified.

    Args:
        model: the model's name, for messages.
        data: the very bytes that were hashed; they are what the backend gets.
        inputs: the signature the manifest promises.
        outputs: likewise.
        sidecars: files that the model file refers to by plain name, verified in the same way.
    """

    model: str
    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sidecars: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What ``edged device`` shows of a backend.

    Args:
        name: the runtime's name in configurations.
        version: the backend's version; empty when it is not there.
        devices: what it can run on, e.g. ``("cpu",)``.
        problem: why it cannot be used and what to install; empty when it can.
        note: what whoever trusts its numbers should know of it; empty where there is nothing.
    """

    name: str
    version: str
    devices: tuple[str, ...]
    problem: str = ""
    note: str = ""


class StillRunningError(Exception):
    """A bound run in another process takes longer than it is waited for; nobody sees this."""


class BoundRun(Protocol):
    """A run from fixed memory to fixed memory; used by one thread at a time."""

    def run(self) -> None:
        """Read the inputs, write the outputs.

        Raises:
            RunError: the model failed, its outputs have other shapes than their memory, or the
                session is closed. What the outputs then hold is of no use.
            StillRunningError: of workers alone: the caller takes the run over with ``await_run``.
        """
        ...


class Session(Protocol):
    """A loaded model, able to run. Thread-safe for ``run``; closed exactly once."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The signature read from the artefact itself."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """The signature read from the artefact itself."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one batch.

        Args:
            inputs: in any memory: strided, unaligned or read-only. Not checked against the
                signature, and not kept.

        Returns:
            The outputs that the artefact promises and no others, in its order; arrays that the
            caller may keep, also where they have no axes.

        Raises:
            RunError: ``model "NAME" failed while running: `` and why, without paths; also after
                ``close``. The session stays usable unless it says otherwise.
            DeviceLostError: as RunError, and the session is of no use any more (``loss.py``).
        """
        ...

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> BoundRun | None:
        """Fix where runs read and write, so that a run is nothing but a run.

        Args:
            inputs: contiguous, of the signature's dtypes; read anew by every run.
            outputs: likewise, all that the artefact promises, writable, of the very shapes that
                the inputs give.

        Returns:
            The run; None where the backend gains nothing by it.

        Raises:
            RunError: these tensors cannot be bound.
        """
        ...

    def close(self) -> None:
        """Give back what the session holds; a second call does nothing."""
        ...


class TextSession(Session, Protocol):
    """A session that makes texts, and can give them piece by piece."""

    def generate(self, ask: Ask, caps: Caps) -> Generator[Piece, None, None]:
        """Make a text, a token at a time; closing what this returns ends it.

        Args:
            ask: what is asked.
            caps: what of it is allowed.

        Raises:
            InvalidRequestError: the prompt has more tokens than may be.
            RunError: as for ``run``.
        """
        ...


class Runtime(Protocol):
    """A backend: loads artefacts into sessions."""

    name: str

    def info(self) -> RuntimeInfo:
        """Say whether the backend can be used here. Never raises."""
        ...

    def estimate_bytes(self, artefact: Artefact) -> int:
        """An upper bound of the memory that loading will take, bytes.

        For memory budgets, which are not built: only tests call it.
        """
        ...

    def load(self, artefact: Artefact) -> Session:
        """Load an artefact.

        A promise may be narrower than the file: a length where the file has a free axis, or
        fewer outputs. Every input of the file must be promised.

        Raises:
            LoadError: the backend refused it, or the file's signature is not the promised one;
                the message names the model and says why and what to do.
        """
        ...
