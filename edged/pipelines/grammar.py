"""Expressions as text: a small grammar of our own, nothing is ever evaluated as code.

    expression  or, and, not, < <= > >= == !=, + -, * / // %, -x, **  (weakest first)
    operand     number, true, false, reference, `any reference`, (expression), name(arguments)

``parse`` makes a tree. What a tree means is ``expressions.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from edged.errors import FieldError
from edged.pipelines.functions import FUNCTIONS, OVER_AXES, WORDS

_MOST_DEPTH = 40
"""Nobody writes deeper brackets by hand, and parsing and computing recurse."""
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)"
    r"|`(?P<quoted>[^`]{1,320})`"
    r"|(?P<sign>\*\*|//|<=|>=|==|!=|[-+*/%<>(),=]))",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    value: float | int | bool


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of the pipeline, by what was written."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator on operands, with an axis where it has one."""

    name: str
    operands: tuple[Tree, ...]
    axis: int | None = None


Tree = Number | Ref | Call


_LEVELS: tuple[tuple[str, ...], ...] = (
    ("or",),
    ("and",),
    ("<", "<=", ">", ">=", "==", "!="),
    ("+", "-"),
    ("*", "/", "//", "%"),
)
"""Operators between two operands, the weakest first."""


def parse(text: str, path: str) -> Tree:
    """Read an expression.

    Args:
        text: at most as long as the configuration allows.
        path: of the field, for problems.

    Raises:
        FieldError: what is wrong, and after which characters.
    """
    return _Parser(text, path).whole()


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path
        self._tokens: list[tuple[str, str]] = []
        place = 0
        while text[place:].strip():
            match = _TOKEN.match(text, place)
            if match is not None:
                self._tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
                place = match.end()
            else:
                self._refuse(f"{text[place:].strip()[:20]!r} cannot be read", place)
        self._next = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._level(0)
        if self._next < len(self._tokens):
            self._refuse(f'"{self._tokens[self._next][1]}" is not expected here')
        return tree

    def _refuse(self, what: str, place: int | None = None) -> NoReturn:
        read = (
            self._text[:place].strip()
            if place is not None
            else " ".join(token for _, token in self._tokens[: self._next])
        )
        after = f', after "{read[-40:]}"' if read else ""
        raise FieldError(self._path, f"{what}{after}; an expression is like (x - 3.5) / 2")

    def _peek(self) -> str:
        """The sign or word that follows; empty at the end, and for anything else."""
        if self._next >= len(self._tokens):
            return ""
        kind, token = self._tokens[self._next]
        return token if kind in ("sign", "name") else ""

    def _take(self, wanted: str) -> None:
        if self._peek() != wanted:
            self._refuse(f'expected "{wanted}"')
        self._next += 1

    def _level(self, level: int) -> Tree:
        if level == len(_LEVELS):
            return self._sign()
        if level == 2 and self._peek() == "not":
            self._next += 1
            self._enter()
            tree = _made("not", self._level(level))
            self._depth -= 1
            return tree
        tree = self._level(level + 1)
        while (sign := self._peek()) in _LEVELS[level]:
            self._next += 1
            tree = _made(sign, tree, self._level(level + 1))
        return tree

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            self._refuse(f"is nested deeper than {_MOST_DEPTH} levels")

    def _sign(self) -> Tree:
        if self._peek() == "-":
            self._next += 1
            self._enter()
            tree = _made("negative", self._sign())
            self._depth -= 1
            return tree
        base = self._operand()
        if self._peek() == "**":
            self._next += 1
            self._enter()
            base = _made("**", base, self._sign())
            self._depth -= 1
        return base

    def _operand(self) -> Tree:
        if self._next >= len(self._tokens):
            self._refuse("ends too early")
        kind, token = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            return Number(int(token) if token.isdigit() else float(token))
        if kind == "quoted":
            self._next += 1
            return Ref(token)
        if kind == "name":
            return self._name(token)
        if token != "(":  # noqa: S105 - a bracket
            self._refuse(f'"{token}" is not expected here')
        self._next += 1
        self._enter()
        tree = self._level(0)
        self._depth -= 1
        self._take(")")
        return tree

    def _name(self, token: str) -> Tree:
        if token in ("and", "or", "not"):
            self._refuse(f'"{token}" is not expected here')
        self._next += 1
        if self._peek() != "(":
            return Number(token == "true") if token in ("true", "false") else Ref(token)  # noqa: S105
        if token not in WORDS:
            self._refuse(f'no function is named "{token}"; there are {", ".join(WORDS)}')
        self._next += 1
        self._enter()
        operands: list[Tree] = []
        axis = None
        while self._peek() != ")":
            if operands:
                self._take(",")
            if self._peek() == "axis" and operands:
                axis = self._axis()
                break
            operands.append(self._level(0))
        self._take(")")
        self._depth -= 1
        function = FUNCTIONS[token]
        if len(operands) != function.operands:
            self._refuse(f"{token} takes {function.operands} operands, found {len(operands)}")
        if axis is not None and function.kind not in OVER_AXES:
            self._refuse(f"{token} works on each element and has no axis")
        if function.kind == "expand" and (axis is None or isinstance(operands[0], Number)):
            self._refuse(f"{token} takes a tensor and where the new axis goes, as axis=1")
        return _made(
            token, *operands, axis=-1 if axis is None and function.kind == "along" else axis
        )

    def _axis(self) -> int:
        self._next += 1
        self._take("=")
        sign = 1
        if self._peek() == "-":
            self._next, sign = self._next + 1, -1
        if self._next >= len(self._tokens) or not self._tokens[self._next][1].isdigit():
            self._refuse("axis must be a whole number")
        self._next += 1
        return sign * int(self._tokens[self._next - 1][1])


def _made(name: str, *operands: Tree, axis: int | None = None) -> Tree:
    """A call; of numbers alone, the number."""
    if not all(isinstance(operand, Number) for operand in operands):
        return Call(name, operands, axis)
    values = [operand.value for operand in operands if isinstance(operand, Number)]
    # In floating point: whole numbers of Python would grow without a bound.
    arrays = [
        np.asarray(value, bool if isinstance(value, bool) else np.float64) for value in values
    ]
    function = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        if function.kind == "elements":
            made = function.compute(*arrays)
        else:
            made = function.compute(*arrays, axis=None) if function.kind == "reduce" else arrays[0]
    result = made.item()
    is_whole = isinstance(result, float) and result.is_integer() and abs(result) < 2**53
    if is_whole and name != "/" and all(isinstance(value, int) for value in values):
        return Number(int(result))
    return Number(result)


def references(tree: Tree) -> Iterator[str]:
    """What values an expression uses, each as written; one may come more than once."""
    if isinstance(tree, Ref):
        yield tree.text
    elif isinstance(tree, Call):
        for operand in tree.operands:
            yield from references(operand)
