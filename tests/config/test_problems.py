"""Words and paths of problems."""

from __future__ import annotations

import pytest

from edged.config.problems import (
    ConfigProblemsError,
    Problem,
    did_you_mean,
    field_path,
    parent_path,
    quote,
)
from edged.errors import Code, ConfigError


def test_a_problem_reads_as_editors_jump() -> None:
    assert str(Problem("a.yaml", 3, 7, "mqtt.port", "bad")) == "a.yaml:3:7: mqtt.port: bad"
    assert str(Problem("a.yaml", 0, 0, "", "is missing")) == "a.yaml: is missing"


def test_names_of_files_move_no_cursor_and_are_text() -> None:
    named = Problem("a.yaml", 1, 1, "models.a", "x\x1b[31m\n\udcff ü: not a bundle")
    assert str(named) == "a.yaml:1:1: models.a: x\\x1b[31m\n\\udcff ü: not a bundle"


def test_the_error_has_them_all() -> None:
    problems = [Problem("a", 1, 1, "", "x"), Problem("b", 2, 2, "", "y")]
    error = ConfigProblemsError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "a:1:1: x\nb:2:2: y"
    assert isinstance(error, ConfigError)
    assert error.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("models",), "models"),
        (("models", "digits", "bundle"), "models.digits.bundle"),
        (("bindings", 0, "from"), "bindings[0].from"),
        (("models", "a.b", "bundle"), 'models["a.b"].bundle'),
        (("models", "a", "bundle", 2), "models.a.bundle[2]"),
    ],
)
def test_paths_there_and_back(parts: tuple[str | int, ...], path: str) -> None:
    built = ""
    steps = [""]
    for part in parts:
        built = field_path(built, part)
        steps.append(built)
    assert built == path
    for step, parent in zip(reversed(steps), [*reversed(steps)][1:], strict=False):
        assert parent_path(step) == parent


@pytest.mark.parametrize(
    ("word", "near"),
    [("kyes", "keys"), ("KEYS", "keys"), ("require-signatures", "require_signatures"), ("zzz", "")],
)
def test_nearest(word: str, near: str) -> None:
    known = ["keys", "require_signatures", "threshold"]
    assert did_you_mean(word, known) == (f' (did you mean "{near}"?)' if near else "")


def test_quote_is_one_short_line() -> None:
    assert quote("a\nb\x1b[31m") == '"a\\x0ab\\x1b[31m"'
    assert len(quote("x" * 1000)) == 62
