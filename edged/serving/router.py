"""Which release answers a request: pinned, by alias, or the model's route.

Pure: looks at states, changes none. One that sleeps answers too, after a load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from edged.errors import ModelNotReadyError, VersionNotFoundError
from edged.serving.served import Served

if TYPE_CHECKING:
    from edged.serving.rollout import Rollout


@dataclass(frozen=True, slots=True)
class Route:
    """How one model's requests find a release.

    Args:
        model: its name.
        releases: by number, in any state.
        serve: the release that answers when none is named, or the newest that is ready.
        aliases: names for release numbers.
        required: whether the daemon is ready only when this model is.
        fallback: the last good release, served while the wanted one cannot be.
        rollout: says which release answers, in the place of ``serve``; None without one.
    """

    model: str
    releases: Mapping[int, Served]
    serve: int | Literal["newest"] = "newest"
    aliases: Mapping[str, int] = field(default_factory=dict)
    required: bool = True
    fallback: Served | None = None
    rollout: Rollout | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a request that names no release would be answered."""
        return self.default_release() is not None

    @property
    def is_dismissed(self) -> bool:
        """Whether an administrator unloaded all that there is of it."""
        return bool(self.releases) and all(one.is_dismissed for one in self.releases.values())

    def default_release(self) -> Served | None:
        """The release that answers when none is named, or None while there is none."""
        serve = self.serve if self.rollout is None else self.rollout.serve
        if serve != "newest":
            release = self.releases.get(serve)
            if release is not None and release.answers:
                return release
        else:
            if len(self.releases) == 1:  # as nearly always, and asked for each request
                (only,) = self.releases.values()
                if only.answers:
                    return only
            ready = [r for r in self.releases.values() if r.answers]
            if ready:
                return max(ready, key=lambda release: release.number)
        fallback = self.fallback
        return fallback if fallback is not None and fallback.answers else None


def choose_release(route: Route, selector: int | str | None) -> Served:
    """Choose who answers.

    Args:
        route: of the model.
        selector: a release number, an alias, or None for the route's own choice.

    Raises:
        VersionNotFoundError: no such release or alias; the message lists what there is.
        ModelNotReadyError: there is one, but it cannot answer now; the message says why.
    """
    if selector is None:
        release = route.default_release()
        if release is not None:
            return release
        reasons = [
            f"release {r.number} is {r.told_state}" + (f": {r.reason}" if r.reason else "")
            for r in route.releases.values()
        ]
        raise ModelNotReadyError(
            f'model "{route.model}" is not ready: {"; ".join(reasons) or "no release is loaded"}'
        )
    number = _number_of(route, selector)
    release = route.releases.get(number)
    if release is None:
        known = ", ".join(str(n) for n in sorted(route.releases)) or "none"
        raise VersionNotFoundError(
            f'model "{route.model}" has no release {number} here; it has: {known}'
        )
    if not release.answers:
        raise ModelNotReadyError(
            f"{release.owner} is {release.told_state}"
            + (f": {release.reason}" if release.reason else "")
        )
    return release


def _number_of(route: Route, selector: int | str) -> int:
    if isinstance(selector, int):
        return selector
    if selector in route.aliases:
        return route.aliases[selector]
    if selector.isascii() and selector.isdigit() and len(selector) <= 16:
        return int(selector)
    known = ", ".join(sorted(route.aliases)) or "none"
    raise VersionNotFoundError(
        f'model "{route.model}" has no alias "{selector[:64]}"; it has: {known}'
    )
