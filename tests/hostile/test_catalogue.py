"""The catalogue cannot drift: each row has a test that quotes it or says what it waits for."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest
import yaml

TESTS = Path(__file__).resolve().parent.parent
CATALOGUE = Path(__file__).with_name("catalogue.yaml")
LATER = ("shared memory", "OIP HTTP", "OIP gRPC", "TensorRT", "rollouts", "worker", "the outbox")
"""What a row may wait for."""


def rows() -> dict[str, dict[str, str]]:
    parts = yaml.safe_load(CATALOGUE.read_text())
    found = dict(itertools.chain.from_iterable(part.items() for part in parts.values()))
    assert len(found) == sum(len(part) for part in parts.values()), "an id occurs twice"
    return found


def is_marker(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "hostile"
    )


def quotes(text: str) -> list[tuple[str, str]]:
    """Each quoted row and the test that quotes it; a marker elsewhere than at a test is an error."""
    found: list[tuple[str, str]] = []
    if ".hostile" not in text:
        return found
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for decorator in filter(is_marker, node.decorator_list):
            assert isinstance(decorator, ast.Call)
            assert node.name.lower().startswith("test"), f"{node.name} is no test"
            for argument in decorator.args:
                assert isinstance(argument, ast.Constant), "quote the row as it stands"
                found.append((str(argument.value), node.name))
    marks = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and is_marker(node)]
    assert sum(len(mark.args) for mark in marks if isinstance(mark, ast.Call)) == len(found)
    return found


def problems(catalogue: dict[str, dict[str, str]], quoted: set[str]) -> list[str]:
    known = {f"{name} {row['input']}": name for name, row in catalogue.items()}
    wrong = [f"no row reads {text!r}" for text in sorted(quoted - set(known))]
    for text, name in known.items():
        row = catalogue[name]
        reason = row.get("waits_for", "")
        if not row.get("answer"):
            wrong.append(f"{name} has no answer")
        if reason and not reason.startswith(LATER):
            wrong.append(f"{name} waits for {reason!r}, which is none of {LATER}")
        if text not in quoted and not reason:
            wrong.append(f"no test quotes {text!r}, and it waits for nothing")
    return wrong


def test_every_row_has_a_test_or_a_reason() -> None:
    quoted: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if path != Path(__file__).resolve():
            for text, name in quotes(path.read_text()):
                quoted.setdefault(text, []).append(f"{path.relative_to(TESTS)}::{name}")
    assert problems(rows(), set(quoted)) == []


def test_rules_and_parts_are_whole() -> None:
    names = list(rows())
    for part, last in (
        ("A", 16),
        ("B", 22),
        ("E", 14),
        ("F", 14),
        ("G", 19),
        ("H", 11),
        ("R", 41),
        ("X", 14),
    ):
        wanted = [f"{part}{number}" for number in range(1, last + 1)]
        assert [name for name in names if name[0] == part] == wanted


ROW = {"input": "noise", "answer": "refused"}


class TestControls:
    """Each gate, seen to close."""

    def test_good(self) -> None:
        assert problems({"Z1": ROW}, {"Z1 noise"}) == []
        assert problems({"Z1": ROW | {"waits_for": "TensorRT"}}, set()) == []

    @pytest.mark.parametrize(
        ("change", "quoted", "words"),
        [
            ({}, set(), "no test quotes 'Z1 noise'"),
            ({}, {"Z1 nose"}, "no row reads 'Z1 nose'"),
            ({"answer": ""}, {"Z1 noise"}, "no answer"),
            ({"waits_for": "better days"}, set(), "which is none of"),
        ],
    )
    def test_bad(self, change: dict[str, str], quoted: set[str], words: str) -> None:
        assert any(words in text for text in problems({"Z1": ROW | change}, quoted))

    def test_quotes_are_read_from_tests_only(self) -> None:
        mark = "@pytest.mark.hostile('Z1 noise')\n"
        assert quotes(f"{mark}def test_a(): ...") == [("Z1 noise", "test_a")]
        assert quotes(f"{mark}class TestA: ...") == [("Z1 noise", "TestA")]
        with pytest.raises(AssertionError, match="no test"):
            quotes(f"{mark}def helper(): ...")
        with pytest.raises(AssertionError):
            quotes("x = pytest.mark.hostile('Z1 noise')")
