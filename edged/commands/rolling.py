"""``edged rollout``: asks a running daemon how rollouts go, or ends one; words for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from edged.client import Client
from edged.commands.dates import date_words
from edged.commands.words import ADMIN_SOCKET
from edged.errors import DeniedError, DisconnectedError, NotFoundError

_UNDER_WAY = ("running", "passed")


def listed(socket: str | None, model: str | None) -> list[dict[str, Any]]:
    """The rollouts that there are, or one model's."""
    with Client(socket) as client:
        found: list[dict[str, Any]] = client.status()["rollouts"]
    return [one for one in found if model is None or one["model"] == model]


def end(socket: str | None, verb: str, model: str) -> dict[str, Any]:
    """Promote or abort; what the rollout is then."""
    document: dict[str, Any] = administer(socket, verb, model)
    return document


def administer(socket: str | None, verb: str, model: str, timeout: float | None = 10.0) -> Any:
    """Ask on ``listen.admin``; who has no such socket is told where it is configured."""
    path = socket or os.environ.get("EDGED_ADMIN_SOCKET") or ADMIN_SOCKET
    try:
        with Client(path, timeout=timeout) as client:
            return client.call(verb, model=model)
    except NotFoundError as exc:
        if not exc.message.startswith(f'no call "{verb}"'):
            raise
        raise DeniedError(
            f"{path} is not `listen.admin` of the configuration, where {verb} is asked; leave out "
            "--socket, or name that one"
        ) from exc
    except DisconnectedError as exc:
        if not isinstance(exc.__cause__, FileNotFoundError):
            raise
        raise DisconnectedError(
            f"cannot connect to {path}: no such socket; {verb} is asked on `listen.admin` of the "
            "configuration, which is off by default: write it, or say where it is: --socket"
        ) from exc


def render(rollouts: list[dict[str, Any]]) -> str:
    """``edged rollout status``."""
    if not rollouts:
        return "no rollout is configured (models.NAME.rollout)"
    return "\n\n".join("\n".join(_lines(one)) for one in rollouts)


def in_short(rollouts: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What ``edged status`` says of them: who gets how much, how long still, and the figures."""
    for one in rollouts:
        yield f"rollout of {one['model']}: " + "; ".join(_standing(one))
        yield from (_figures(one) if one["phase"] in _UNDER_WAY else ())


def _standing(one: dict[str, Any]) -> Iterator[str]:
    yield one["phase"] + (f" ({one['reason']})" if one["reason"] else "")
    if one["phase"] not in _UNDER_WAY:
        yield _what_to_write(one)
        return
    if one["phase"] == "passed":
        yield f"waits for you: edged rollout promote {one['model']}, or abort"
    total = sum(one["weights"].values())
    if total and len(one["weights"]) > 1:
        shares = (f"release {n} gets {100 * w / total:.3g} %" for n, w in one["weights"].items())
        yield ", ".join(shares) + (f", by {one['key']}" if one["key"] else "")
    if one.get("shadow"):
        yield f"release {one['shadow']} is asked the same again"
    if one["canary"] and one["phase"] == "running":
        yield f"{max(one['window_s'] - one['elapsed_s'], 0.0):.0f} s of its window are left"
        if one["waits_for"]:
            yield f"not enough yet: {one['waits_for']}"


def _lines(one: dict[str, Any]) -> Iterator[str]:
    shares = ", ".join(f"release {number}: {share}" for number, share in one["weights"].items())
    key = f", by {one['key']}" if one["key"] and shares else ""
    yield f"{one['model']}: {one['phase']}" + (f" ({shares}{key})" if shares else "")
    if one["reason"]:
        yield f"  {one['reason']}"
    if one["phase"] not in _UNDER_WAY:
        yield f"  {_what_to_write(one)}"
    if one["canary"]:
        yield f"  {one['elapsed_s']:.0f} s of a window of {one['window_s']:.0f} s"
    if one["waits_for"]:
        yield f"  not enough yet: {one['waits_for']}"
    yield from _figures(one)
    for tensor, moved in one["drift"].items():
        said = "no finite number" if moved is None else f"mean moved by {moved:.2f} deviations"
        strange = one.get("nan", {}).get(tensor) or 0.0
        apart = f", {strange:.2f} % NaN or infinite" if strange else ""
        yield f"  {tensor}: {said}, psi {one['psi'].get(tensor) or 0:.2f}{apart}"
    for old in one["before"]:
        tried = (
            f"{old['canary']} over {old['stable']}" if old["canary"] else f"{old['stable']} alone"
        )
        when = f" {date_words(old['ended'])}" if old["ended"] else ""
        yield f"  before: release {tried}: {old['phase']}{when}"
        if old["reason"]:
            yield f"    {old['reason']}"
        yield from (f"  {line}" for line in _figures(old))


def _what_to_write(one: dict[str, Any]) -> str:
    """It is over, and the section still there: what it came to is to be the files' word."""
    release = one["canary"] if one["phase"] == "promoted" else one["stable"]
    return f"when there is time, write it: serve: {release}, in place of rollout"


def _figures(one: dict[str, Any]) -> Iterator[str]:
    for number, side in one["sides"].items():
        slow = f", 99 % within {side['p99_ms']:.3f} ms" if side["answers"] else ""
        yield f"  release {number}: {side['answers']} answers, {side['errors']} errors{slow}"
    if one["compared"] or one["failed_again"]:
        yield (
            f"  compared: {one['compared']}, differing: {one['differing']}, failed: "
            f"{one['failed_again']}, not asked again: {one['dropped']}"
        )
