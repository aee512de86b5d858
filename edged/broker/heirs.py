"""What earlier processes left at brokers: sessions with messages for bindings that moved since.

Decides who answers them. A binding that went another way while the daemon stood still would else
find its messages acknowledged in the old session as nobody's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from edged.config.binding import BindingConfig
from edged.config.broker_lines import Line, line_of
from edged.config.brokers import MAIN
from edged.config.schema import Config
from edged.errors import FieldError

if TYPE_CHECKING:
    from edged.transports.bindings.binding import Binding
    from edged.transports.bindings.binding_set import BindingSet

FOLDER = "brokers"
"""In the state directory, a folder for each line but the first."""
_TWICE = 2
"""QoS 2."""


def folder_of(state_dir: Path, line: Line) -> Path:
    """Where a line keeps what it must remember."""
    return state_dir if line == Line() else state_dir / FOLDER / line.name.replace(" ", ".")


def lines_left(state_dir: Path, config: Config) -> list[Line]:
    """The lines that a configuration could have and whose sessions may still hold messages."""
    if not (state_dir / FOLDER).is_dir():
        return []
    return [line for line in possible_lines(config) if is_left(folder_of(state_dir, line))]


def is_left(folder: Path) -> bool:
    """Whether a session that is noted in this folder may hold messages."""
    if not any(folder.glob("mqtt-filters*.json")):
        return False
    from edged.transports.bindings.subscriptions import sessions_known  # noqa: PLC0415 - only if used

    return any(found.held or found.past for _, found in sessions_known(folder))


def forget(folder: Path) -> None:
    """The brokers have nothing more of what the sessions noted in this folder have given back."""
    from edged.transports.bindings.subscriptions import forget_sessions  # noqa: PLC0415 - only if used

    with contextlib.suppress(OSError):  # then they are looked at once more
        forget_sessions(folder)


def with_heirs(
    bindings: BindingSet, folder: Path, config: Config, line: Line, *, is_new: bool = True
) -> BindingSet:
    """A line's bindings, and those that it once had and that are another line's now.

    Args:
        bindings: of the line.
        folder: where it remembers its sessions.
        config: the whole.
        line: it.
        is_new: it is opened now; else whoever leaves it now is known, and the others answer what
            nobody else does, also where its session begins anew with another password.
    """
    leaving, past = _heirs(folder, config, line, bindings.max_request_bytes)
    if not is_new:
        leaving, past = [], [*leaving, *past]
    if not leaving and not past:
        return bindings
    found = bindings.with_bindings(bindings.bindings, (*bindings.leaving, *leaving))
    found.past = (*found.past, *past)
    return found


def _heirs(
    folder: Path, config: Config, line: Line, limit: int
) -> tuple[list[Binding], list[Binding]]:
    """Those whose filters the broker was not yet told to forget, and those who may have a rest."""
    from edged.transports.bindings.subscriptions import sessions_known  # noqa: PLC0415 - only if used

    others = {one.name: one for one in config.bindings if line_of(config, one) != line}
    leaving: list[Binding] = []
    past: list[Binding] = []
    for session, remembered in sessions_known(folder):
        leaving += _of_session(session, remembered.held, others, line, limit)
        past += _of_session(session, remembered.past, others, line, limit)
    return leaving, past


def _of_session(
    session: str | None,
    noted: Mapping[str, Sequence[str]],
    others: Mapping[str, BindingConfig],
    line: Line,
    limit: int,
) -> Iterator[Binding]:
    from edged.transports.bindings.binding import Binding  # noqa: PLC0415 - only if used

    made: dict[str, Binding] = {}
    for text, names in noted.items():
        for name in names:
            if name in made or name not in others:
                continue
            try:
                one = Binding(_as_here(others[name], session, line), name, limit)
            except FieldError:
                continue  # said where it is read
            if any(own.mqtt == text for own in one.filters):
                made[name] = one
    yield from made.values()


def _as_here(config: BindingConfig, session: str | None, line: Line) -> BindingConfig:
    """A binding in the session that it has left; its answers go that session's way."""
    # QoS 2 needs a session that the broker forgets: that of results.
    is_too_much = config.sent_qos == _TWICE and not line.results
    return structs.replace(
        config, session=session, answer_qos=1 if is_too_much else config.answer_qos
    )


def possible_lines(config: Config) -> Iterator[Line]:
    """All but the first that a configuration of these brokers could have."""
    names = (MAIN, *config.brokers)
    for broker in names:
        for results in ("", *names):
            line = Line(broker, results)
            if line != Line():
                yield line
        yield Line(broker, broker, by_disk=True)
