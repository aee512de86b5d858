"""What administrators ask in the protocol's words: loads, the log, traces. Pure.

Of the log there is one level, and what is written at it is what is written at all above it; the
protocol has a switch for each. Of traces there are none, and that is what is said.
Source: Triton's ``extension_model_repository.md``, ``…_logging.md``, ``…_trace.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from edged import decoding
from edged.errors import DecodeError, InvalidRequestError
from edged.protocol.frames import Buffer
from edged.protocol.oip_outline import check_short

LEVELS: Final = ("error", "warning", "info", "debug")
"""The log's levels, from the one that says least."""
_UNLOAD: Final = "unload_dependents"
_T = TypeVar("_T")


class _Asked(Struct, frozen=True):
    parameters: Mapping[str, bool | int | float | str] = {}


class _Log(Struct, frozen=True):
    log_file: str | UnsetType = UNSET
    log_info: bool | UnsetType = UNSET
    log_warning: bool | UnsetType = UNSET
    log_error: bool | UnsetType = UNSET
    log_verbose_level: int | UnsetType = UNSET
    log_format: str | UnsetType = UNSET


class _Trace(Struct, frozen=True):
    trace_level: tuple[str, ...] | UnsetType | None = UNSET
    trace_file: str | UnsetType | None = UNSET
    trace_rate: str | UnsetType | None = UNSET
    trace_count: str | UnsetType | None = UNSET
    log_frequency: str | UnsetType | None = UNSET
    trace_mode: str | UnsetType | None = UNSET


def check_load(body: Buffer) -> None:
    """Refuse what a load may not bring along: another configuration, or files.

    Raises:
        InvalidRequestError: says what was brought, and where it belongs.
    """
    refuse_load(_decode(body, _Asked).parameters)


def refuse_load(parameters: Mapping[str, object]) -> None:
    """As ``check_load``, for parameters that were read."""
    for name in parameters:
        raise InvalidRequestError(
            f"failed to load: the parameter {name[:64]!r} is not taken; what a model is and how it "
            "runs stands in the daemon's configuration, and its files in a bundle"
        )


def check_unload(body: Buffer) -> None:
    """Refuse what an unload cannot do.

    Raises:
        InvalidRequestError: says which parameter, and what was expected.
    """
    refuse_unload(_decode(body, _Asked).parameters)


def refuse_unload(parameters: Mapping[str, object]) -> None:
    """As ``check_unload``, for parameters that were read."""
    for name, value in parameters.items():
        if name != _UNLOAD or value is not False:
            raise InvalidRequestError(
                f"failed to unload: the parameter {name[:64]!r} is not taken as "
                f"{str(value)[:64]}; expected none, or {_UNLOAD} false: unload the models of a "
                "pipeline one by one"
            )


def log_document(level: str) -> dict[str, Any]:
    """The log's settings as the protocol says them."""
    rank = LEVELS.index(level)
    return {
        "log_file": "",  # standard error, which the service manager keeps
        "log_info": rank >= 2,
        "log_warning": rank >= 1,
        "log_error": True,
        "log_verbose_level": int(rank == 3),
        "log_format": "default",
    }


def level_of(body: Buffer, level: str) -> str:
    """The level that a request asks for.

    Args:
        body: with the settings to change; what is not named stays, as far as that can be.
        level: the one now.

    Raises:
        InvalidRequestError: there is no such setting here; says what was expected.
    """
    return _level_of(_decode(body, _Log), level)


def level_among(settings: Mapping[str, object], level: str) -> str:
    """As ``level_of``, for settings that were read."""
    return _level_of(_taken(settings, _Log), level)


def _level_of(asked: _Log, level: str) -> str:
    if asked.log_file or asked.log_format not in (UNSET, "default"):
        raise InvalidRequestError(
            "log_file and log_format cannot be changed: the log goes to standard error, in lines"
        )
    if asked.log_error is False:
        raise InvalidRequestError("log_error cannot be false: errors are always written")
    verbose = asked.log_verbose_level
    if verbose is not UNSET and verbose < 0:
        raise InvalidRequestError(f"log_verbose_level is {verbose}; expected a number from 0")
    wants_debug = verbose if verbose is UNSET else verbose > 0
    switches = (asked.log_warning, asked.log_info, wants_debug)
    on = [rank for rank, wanted in enumerate(switches, 1) if wanted is True]
    off = [rank for rank, wanted in enumerate(switches, 1) if wanted is False]
    most, least = min(off, default=4) - 1, max(on, default=0)
    if most < least:
        raise InvalidRequestError(
            f"log_{LEVELS[most + 1]} cannot be off while more is written than that: a level "
            f"brings all above it ({', '.join(LEVELS)})"
        )
    return LEVELS[max(least, min(most, LEVELS.index(level)))]


def trace_document() -> dict[str, Any]:
    """The settings of traces: there are none."""
    return {
        "trace_level": ["OFF"],
        "trace_rate": "0",
        "trace_count": "0",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    }


def check_trace(body: Buffer) -> None:
    """Refuse to trace; what leaves traces off is taken.

    Raises:
        InvalidRequestError: says what there is instead.
    """
    _check_trace(_decode(body, _Trace))


def check_trace_settings(settings: Mapping[str, Sequence[str]]) -> None:
    """As ``check_trace``, for settings that were read: each has any number of values.

    None is to clear it, as null does over HTTP.
    """
    plain: dict[str, object] = {}
    for name, values in settings.items():
        one = values[0] if len(values) == 1 else None
        plain[name] = tuple(values) if name == "trace_level" or len(values) > 1 else one
    _check_trace(_taken(plain, _Trace))


def _check_trace(asked: _Trace) -> None:
    nothing = trace_document()
    for name in asked.__struct_fields__:
        value = getattr(asked, name)
        wanted = list(value) if isinstance(value, tuple) else value
        if wanted is not UNSET and wanted is not None and wanted not in (nothing[name], []):
            raise InvalidRequestError(
                f"{name} cannot be changed: no traces are taken here; how long requests wait and "
                "run is in the statistics and in /metrics"
            )


def _decode(body: Buffer, kind: type[_T]) -> _T:
    """Read a body; an empty one says nothing.

    Raises:
        DecodeError: it is none.
        TooLargeError: it is none that anybody would write.
    """
    check_short(body)
    try:
        return decoding.decode(body or b"{}", kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None


def _taken(settings: Mapping[str, object], kind: type[_T]) -> _T:
    """The same of what another form was read from; raises DecodeError for other types of values."""
    try:
        return decoding.convert(dict(settings), kind)
    except msgspec.ValidationError as exc:
        raise DecodeError(f"Unable to parse the request: {exc}") from None
