"""All commands speak alike: one sentence each, and the same options with the same words."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from edged.cli import _parser
from edged.commands.words import add_json, add_verb, add_verbs

ALIKE = ("--config", "--state-dir", "--json")


def verbs(parser: argparse.ArgumentParser, name: str = "edged") -> Iterator[tuple[str, str]]:
    """Each command and verb with its sentence."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield f"{name} {choice.dest}", str(choice.help)
            for verb, sub in action.choices.items():
                yield from verbs(sub, f"{name} {verb}")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


@pytest.mark.parametrize(("verb", "text"), list(verbs(_parser())), ids=lambda value: value[:40])
def test_a_command_is_one_sentence(verb: str, text: str) -> None:
    assert text[0].isupper(), f"{verb}: {text}"
    assert text.endswith("."), f"{verb}: {text}"
    if verb.count(" ") == 1:
        assert len(text) <= 64, f"{verb}: {text}: not one line of edged --help on 80 columns"


@pytest.mark.parametrize("option", ALIKE)
def test_an_option_is_the_same_everywhere(option: str) -> None:
    found = {
        action.help
        for parser in parsers(_parser())
        for action in parser._actions
        if option in action.option_strings
    }
    expected = {
        "--config": 1, "--state-dir": 1,
        "--json": 4,  # of check, of bindings test and of bundle pull, which are no documents
    }  # fmt: skip
    assert len(found) == expected[option], found


def test_a_command_with_verbs() -> None:
    parser = argparse.ArgumentParser()
    group = add_verbs(parser.add_subparsers(), "door", "Open doors.")
    add_json(add_verb(group, "open", lambda options: int(options.json), "Open one."))
    options = parser.parse_args(["door", "open", "--json"])
    assert options.run(options) == 1
    with pytest.raises(SystemExit):
        parser.parse_args(["door"])
