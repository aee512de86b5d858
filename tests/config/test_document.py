"""Merging of trees."""

from __future__ import annotations

import pytest

from edged.config.document import ListNode, MapNode, Scalar, merge
from edged.config.load import read_document


def tree(text: str, file: str) -> MapNode:
    document, problems = read_document(file, text.encode())
    assert document is not None
    assert not problems
    return document


def plain(node: object) -> object:
    if isinstance(node, MapNode):
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [plain(item) for item in node.items]
    assert isinstance(node, Scalar)
    return node.text


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a: 1", "b: 2", {"a": "1", "b": "2"}),
        ("a: {b: 1}", "a: {c: {d: 2}}", {"a": {"b": "1", "c": {"d": "2"}}}),
        ("a: [1]", "a: [2, 3]", {"a": ["1", "2", "3"]}),
        ("models: {x: {y: 1}}", "models: {z: {y: 1}}", {"models": {"x": {"y": "1"}, "z": {"y": "1"}}}),
    ],
)  # fmt: skip
def test_what_merges(first: str, second: str, expected: object) -> None:
    one = tree(first, "one")
    before = plain(one)
    merged, problems = merge([one, tree(second, "two")])
    assert not problems
    assert plain(merged) == expected
    assert plain(one) == before, "the inputs are not changed"


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ("a: 1", "a: 1", "a"),
        ("a: {b: 1}", "a: {b: 2}", "a.b"),
        ("a: {b: 1}", "a: 5", "a"),
        ("a: [1]", "a: {b: 1}", "a"),
        ("models: {x: {y: 1}}", "models: {x: {z: 1}}", "models.x"),
    ],
)
def test_what_stands_twice(first: str, second: str, path: str) -> None:
    _, (problem,) = merge([tree(first, "one"), tree(second, "two")])
    assert (problem.file, problem.path) == ("two", path)
    assert "already set at one:1:" in problem.message
