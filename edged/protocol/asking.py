"""What a caller asks over the native protocol, shared by every client: no socket, clock or thread.

Makes requests and prepared calls of what was given, and says what is wrong with it. Which answer is
whose is ``conversation``'s.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import numpy as np

from edged.errors import InvalidRequestError, TensorMismatchError
from edged.messages import InferRequest, PrepareRequest
from edged.protocol import prepared_runs
from edged.protocol.frames import Buffer
from edged.protocol.keys import Key, key_text
from edged.protocol.layout import BodyLayout
from edged.tensors import ALL_DTYPES, BATCH, DTYPES, Array, TensorSpec

DEFAULT_SOCKET = "/run/edged/edged.sock"
GRACE_S = 2.0
"""How much longer than the request's own timeout a client waits: the server's answer, which says
where the time went, is worth more than our own "timed out"."""
_TIMEOUT_CAP_S = 1e9
"""Thirty years: what is longer, or no number, is a mistake and not a timeout."""
_ARRAYS = (np.ndarray, np.generic)

Layout = tuple[tuple[int | None, ...], str]


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """The socket to use: the one given, $EDGED_SOCKET, or the usual one."""
    return os.fspath(path or os.environ.get("EDGED_SOCKET") or DEFAULT_SOCKET)


def timeout_us(seconds: float | None) -> int:
    """A timeout as the wire has it.

    Raises:
        InvalidRequestError: it is no number of seconds.
    """
    if seconds is None:
        return 0
    if not seconds < _TIMEOUT_CAP_S:
        raise InvalidRequestError(
            f"timeout {seconds}: expected a number of seconds (Client(timeout=None): no limit)"
        )
    return max(1, int(seconds * 1e6))


def infer_request(
    model: str,
    inputs: Mapping[str, Array] | None,
    tensors: Mapping[str, Array],
    release: int | str | None,
    outputs: Collection[str],
    *,
    key: Key = None,
) -> InferRequest:
    """A request of what a caller gave.

    Raises:
        InvalidRequestError: something that is no array, a key that is none, or a text for outputs.
    """
    named = named_arrays(inputs, tensors)
    return InferRequest(model, named, release, wanted_outputs(outputs), asker=key_text(key))


def named_arrays(
    inputs: Mapping[str, Array] | None, tensors: Mapping[str, Array]
) -> dict[str, Array]:
    """Both ways of giving arrays as one, each looked at.

    Raises:
        InvalidRequestError: something that is no array.
    """
    named = {**(inputs or {}), **tensors}
    for name, array in named.items():
        if not isinstance(array, _ARRAYS):
            raise _no_array(name, array)
    return named


def wanted_outputs(names: Collection[str]) -> tuple[str, ...]:
    """The outputs that a caller wants.

    Raises:
        InvalidRequestError: one text, which would be taken for as many names as it has letters.
    """
    if isinstance(names, str):
        raise InvalidRequestError(f'outputs="{names}": expected a list of names, as ["{names}"]')
    return tuple(names)


def _no_array(name: str, given: object) -> InvalidRequestError:
    return InvalidRequestError(f'"{name}" is a {type(given).__name__}; expected a NumPy array')


def prepare_request(
    model: str,
    inputs: Mapping[str, Layout] | None,
    layouts: Mapping[str, Layout],
    release: int | str | None,
    outputs: Collection[str],
) -> PrepareRequest:
    """What to prepare, of ``name=(shape, dtype)`` with None for a free first axis.

    Raises:
        InvalidRequestError: a layout that is none, or a text for outputs.
    """
    specs = []
    for name, layout in {**(inputs or {}), **layouts}.items():
        try:
            shape, given = layout
            dtype = given if given == "bfloat16" else np.dtype(given).name
            axes = tuple(None if axis is None else int(axis) for axis in shape)
        except (TypeError, ValueError) as exc:
            raise InvalidRequestError(
                f'"{name}": {layout!r}; expected (shape, dtype), as ((None, 64), "float32")'
            ) from exc
        if dtype not in ALL_DTYPES:
            raise TensorMismatchError(
                f'"{name}": dtype {dtype}; a prepared call carries {", ".join(DTYPES)}, bfloat16'
            )
        if None in axes[1:] or any(axis is not None and axis < 1 for axis in axes):
            raise InvalidRequestError(
                f'"{name}": shape {shape!r}; expected numbers from 1, or None for the first axis'
            )
        rest = tuple(axis for axis in axes[1:] if axis is not None)
        first = tuple(BATCH if axis is None else axis for axis in axes[:1])
        specs.append(TensorSpec(name, dtype, (*first, *rest)))
    return PrepareRequest(model, tuple(specs), release, wanted_outputs(outputs))


class Plan:
    """A prepared call on the asking side: the layout, whichever connection it is used on.

    Args:
        request: what is prepared.
    """

    def __init__(self, request: PrepareRequest) -> None:
        self.request = request
        self.layout = BodyLayout(request.inputs)
        self.names = tuple(spec.name for spec in request.inputs)

    def by_position(self, arrays: tuple[Array, ...]) -> dict[str, Array]:
        """Name arrays that were given in the order of the layout."""
        if len(arrays) != len(self.names):
            raise InvalidRequestError(
                f"{len(arrays)} arrays; this call was prepared for {', '.join(self.names)}"
            )
        return dict(zip(self.names, arrays, strict=True))

    def frame(
        self,
        handle: int,
        tensors: Mapping[str, Array],
        wait_us: int,
        number: int,
        key: str | None = None,
    ) -> list[Buffer]:
        """A RUN frame.

        Raises:
            TensorMismatchError: the tensors are not of the layout.
            InvalidRequestError: something that is no array.
        """
        for name, array in tensors.items():
            if type(array) is not np.ndarray and not isinstance(array, _ARRAYS):
                raise _no_array(name, array)
        layout = self.layout
        head = prepared_runs.RunHead(handle, layout.rows_of(tensors), wait_us, key)
        return prepared_runs.encode_run(number, head, layout, tensors)
