"""Who answers: pinned, alias, the route's own choice; and errors that list what there is."""

from __future__ import annotations

import pytest

from edged.config.schema import ModelConfig
from edged.errors import EdgedError, ModelNotReadyError, VersionNotFoundError
from edged.serving.lifecycle import ReleaseKey, State
from edged.serving.release import ServedRelease
from edged.serving.router import Route, choose_release
from tests.fakes.model import doubler


def release(number: int, state: State = State.READY, reason: str = "") -> ServedRelease:
    manifest = doubler(release=number)
    made = ServedRelease(ReleaseKey("gate", f"d{number}", ""), manifest, ModelConfig(bundle="b"), 0)
    made.state, made.reason = state, reason
    return made


def route(*releases: ServedRelease, **fields) -> Route:
    return Route("gate", {r.number: r for r in releases}, **fields)


READY1, READY2 = release(1), release(2)
NEW3 = release(3, State.NEW)
BROKEN4 = release(4, State.FAILED, "no such operator")
OLD = release(9)
ALIASES = {"champion": 1, "next": 3, "gone": 8}
FULL = route(READY1, READY2, NEW3, BROKEN4, aliases=ALIASES)

CHOSEN = {
    "newest that is ready": (FULL, None, 2),
    "pinned by number": (FULL, 1, 1),
    "number as text": (FULL, "1", 1),
    "alias": (FULL, "champion", 1),
    "serve": (route(READY1, READY2, serve=1), None, 1),
    "fallback for serve that failed": (route(READY1, BROKEN4, serve=4, fallback=READY1), None, 1),
    "fallback when nothing is ready": (route(NEW3, fallback=OLD), None, 9),
    "ready goes before fallback": (route(READY1, fallback=OLD), None, 1),
    "a numeric alias wins over the number": (route(READY1, READY2, aliases={"1": 2}), "1", 2),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen(name: str):
    by, selector, number = CHOSEN[name]
    assert choose_release(by, selector).number == number


NOBODY = {
    "empty": (route(), None, ModelNotReadyError, "not ready: no release is loaded"),
    "new": (route(NEW3), None, ModelNotReadyError, "release 3 is new"),
    "failed says why": (
        route(BROKEN4, NEW3),
        None,
        ModelNotReadyError,
        "release 4 is failed: no such operator; release 3 is new",
    ),
    "serve is not another": (route(READY2, serve=1), None, ModelNotReadyError, "not ready"),
    "fallback must be ready": (
        route(fallback=release(1, State.DRAINING)),
        None,
        ModelNotReadyError,
        "not ready",
    ),
    "unknown number": (FULL, 7, VersionNotFoundError, "no release 7 here; it has: 1, 2, 3, 4"),
    "unknown of none": (route(), 7, VersionNotFoundError, "it has: none"),
    "unknown alias": (
        FULL,
        "canary",
        VersionNotFoundError,
        'no alias "canary"; it has: champion, gone, next',
    ),
    "alias of nothing": (FULL, "gone", VersionNotFoundError, "no release 8 here"),
    "pinned and not ready": (FULL, 4, ModelNotReadyError, "release 4 is failed: no such operator"),
    "alias and not ready": (FULL, "next", ModelNotReadyError, "release 3 is new"),
    "long alias is cut": (FULL, "a" * 500, VersionNotFoundError, f'"{"a" * 64}"'),
    "digits that are no ASCII": (FULL, "\u0661", VersionNotFoundError, "no alias"),
    "too many digits": (FULL, "9" * 5000, VersionNotFoundError, "no alias"),
    "empty alias": (FULL, "", VersionNotFoundError, 'no alias ""'),
}


@pytest.mark.parametrize("name", NOBODY)
def test_nobody(name: str):
    by, selector, kind, message = NOBODY[name]
    with pytest.raises(EdgedError) as caught:
        choose_release(by, selector)
    assert type(caught.value) is kind
    assert message in caught.value.message
    assert len(caught.value.message) < 400


def test_is_ready():
    assert route(READY1).is_ready
    assert route(NEW3, fallback=OLD).is_ready
    assert not route(NEW3).is_ready
    assert not route(READY1, serve=2).is_ready
