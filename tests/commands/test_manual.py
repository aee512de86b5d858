"""What --help says: every word explained, examples that are read, statuses that are the documented ones."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.cli import _parser, main
from edged.commands.manual import EXAMPLES, OWN, STATUSES
from edged.errors import STATUS


def verbs(
    parser: argparse.ArgumentParser, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, sub in action.choices.items():
                yield from verbs(sub, f"{name} {verb}".strip())


VERBS = dict(verbs(_parser()))


@pytest.mark.parametrize("name", VERBS)
def test_every_word_is_explained_in_one_way(name: str):
    parser = VERBS[name]
    assert re.fullmatch(r"[A-Z].*\.", parser.description or ""), "a sentence"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        assert action.help, action.dest
        assert action.help == argparse.SUPPRESS or not action.help.endswith("."), action.help
        assert action.nargs == 0 or action.choices or action.metavar, "not by its name in the code"
    assert "exit status" in parser.format_help()


@pytest.mark.parametrize("example", [one for many in EXAMPLES.values() for one in many])
def test_an_example_is_read(example: str):
    words = shlex.split(re.split(r" [|>] ", example)[0])
    options = _parser().parse_args(words[1:])
    assert callable(options.run)


def test_what_is_said_is_said_of_verbs_that_there_are():
    assert EXAMPLES.keys() | OWN.keys() <= VERBS.keys()
    assert {status for own in OWN.values() for status in own} <= STATUSES.keys()


def test_every_status_is_in_the_table_and_the_page_has_the_same():
    assert {one.exit for one in STATUS.values()} <= STATUSES.keys()
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    table = page.partition("<!-- statuses -->")[2].partition("<!-- end of statuses -->")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", table, re.MULTILINE)
    assert [(int(status), meaning) for status, meaning in rows] == list(STATUSES.items())


def test_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["bundle", "install", "--help"])
    shown = capsys.readouterr().out
    assert "\nexamples:\n  edged bundle install --wait digits-2.edgb\n" in shown
    assert "\n  78   refused; with --wait also by the daemon\n" in shown
