"""``edged quarantine``: which releases this device leaves out, and the way back for an operator.

Works on the state directory, whether the daemon runs or not; the daemon looks again at its next
reload.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

from edged.errors import ApplyError, NotFoundError
from edged.store.probation import Probation, Standing


def quarantined(state_dir: Path) -> Mapping[str, Standing]:
    """Every standing with a quarantine, by digest."""
    everything = Probation(state_dir / "probation").all()
    return {digest: one for digest, one in everything.items() if one.quarantine is not None}


def render(standings: Mapping[str, Standing]) -> str:
    """Lines for a person."""
    if not standings:
        return "no release is in quarantine"
    lines = []
    for digest, one in standings.items():
        assert one.quarantine is not None
        lines.append(
            f"{one.model} release {one.release}  {digest[:12]}  since {_date(one.quarantine.at)}\n"
            f"    {one.quarantine.reason}"
        )
    return "\n".join(lines)


def _date(at: float) -> str:
    try:
        return f"{dt.datetime.fromtimestamp(at, tz=dt.timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "an unknown date"


def lift(state_dir: Path, which: str) -> str:
    """Let releases be tried again.

    Args:
        state_dir: of the daemon.
        which: a model's name, or how a digest begins (8 digits at least).

    Returns:
        What was done, for a person.

    Raises:
        NotFoundError: nothing of that name is in quarantine.
        ApplyError: the state directory does not let us.
    """
    standings = quarantined(state_dir)
    chosen = {
        digest: one
        for digest, one in standings.items()
        if one.model == which or (len(which) >= 8 and digest.startswith(which))
    }
    if not chosen:
        have = ", ".join(f"{one.model} ({digest[:12]})" for digest, one in standings.items())
        raise NotFoundError(f'"{which[:80]}" is not in quarantine; in it are: {have or "none"}')
    probation = Probation(state_dir / "probation")
    for digest in chosen:
        try:
            probation.lift(digest)
        except OSError as exc:
            raise ApplyError(
                f"the quarantine of {digest[:12]} cannot be lifted: {exc.strerror}"
            ) from exc
    names = ", ".join(f"{one.model} release {one.release}" for one in chosen.values())
    return f"{names}: will be tried again at the next reload (systemctl reload edged)"
