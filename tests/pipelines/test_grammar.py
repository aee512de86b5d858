"""The grammar of expressions: what is refused, and how it is said."""

from __future__ import annotations

import pytest

from edged.errors import FieldError
from edged.pipelines.grammar import Call, Number, Ref, parse, references

REFUSED = {
    "x +": "ends too early",
    "": "ends too early",
    "x x": '"x" is not expected here, after "x"',
    "(x": 'expected ")"',
    "f(x)": 'no function is named "f"',
    "__import__('os')": "cannot be read",
    "x.__class__": None,
    "max(x, axis=y)": "axis must be a whole number",
    "abs(x, x)": "abs takes 1 operands, found 2",
    "abs(x, axis=1)": "abs works on each element and has no axis",
    "and x": '"and" is not expected here',
    "x[0]": "'[0]' cannot be read",
    "x; y": "'; y' cannot be read",
    "lambda: 1": "cannot be read",
    "(" * 60 + "x" + ")" * 60: "is nested deeper than 40 levels",
    "-" * 100 + "x": "is nested deeper than 40 levels",
    "not " * 100 + "x": "is nested deeper than 40 levels",
}


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.hostile(
    "F13 an expression with brackets without end, with code, or with a power tower"
)
def test_refused(text: str):
    wanted = REFUSED[text]
    if wanted is None:  # a reference like any other; nothing of that name is there
        assert list(references(parse(text, "p"))) == [text]
        return
    with pytest.raises(FieldError, match=r"^p: ") as caught:
        parse(text, "p")
    assert wanted in caught.value.reason


def test_trees():
    assert parse("a.b + 1 * c", "p") == Call("+", (Ref("a.b"), Call("*", (Number(1), Ref("c")))))
    assert parse("`odd name/0`", "p") == Ref("odd name/0")
    assert parse("softmax(x)", "p") == Call("softmax", (Ref("x"),), -1)
    assert list(references(parse("a + max(b, axis=-2) * a", "p"))) == ["a", "b", "a"]
    assert parse("2 + 3 * 4", "p") == Number(14)
