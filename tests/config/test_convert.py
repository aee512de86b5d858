"""The walk over tree and schema."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.convert import convert_config, convert_struct, describe, options
from edged.config.load import read_document
from edged.config.schema import Config, ModelConfig


def draft(text: str):
    document, problems = read_document("x", text.encode())
    assert document is not None
    assert not problems
    return convert_config(document)


def test_no_field_is_left_to_its_default_by_accident() -> None:
    """msgspec, reading the same values from JSON, builds the same config."""
    made = draft(
        "node: n\nlisten: {max_connections: 9}\ntrust: {keys: [a, b]}\n"
        "models: {m: {bundle: [x], serve: 3, aliases: {a: 1}, batching: {max_batch: 2}}}\n"
        "bindings: [{name: b, from: f, model: m, fields: [x, {path: y, default: 1.5}]}]\n"
    )
    assert not made.problems
    same = msgspec.convert(
        {
            "node": "n",
            "listen": {"max_connections": 9},
            "trust": {"keys": ["a", "b"]},
            "models": {
                "m": {
                    "bundle": ["x"],
                    "serve": 3,
                    "aliases": {"a": 1},
                    "batching": {"max_batch": 2},
                }
            },
            "bindings": [
                {
                    "name": "b",
                    "from": "f",
                    "model": "m",
                    "fields": ["x", {"path": "y", "default": 1.5}],
                }
            ],
        },
        Config,
    )
    assert made.config == same


def test_broken_parts_keep_the_rest() -> None:
    made = draft(
        "mqtt: {port: x, host: h}\nmodels: {a: {}, b: {bundle: x}}\n"
        "bindings: [{name: 5 x}, {name: b, from: f, model: b}]\n"
    )
    assert made.config.mqtt is not None
    assert made.config.mqtt.host == "h"
    assert set(made.config.models) == {"b"}
    assert made.broken_bindings == {0}
    assert {problem.path for problem in made.problems} == {
        "mqtt.port", "models.a", "bindings[0].name", "bindings[0]",
    }  # fmt: skip


def test_a_list_with_a_broken_entry_is_not_half_kept() -> None:
    made = draft("trust: {keys: [null, a]}\nmodels: {m: {bundle: [null]}}\n")
    assert made.config.trust.keys == ()
    assert made.config.models == {}
    assert {problem.path for problem in made.problems} == {
        "trust.keys[0]", "models.m.bundle[0]",
    }  # fmt: skip


def test_every_written_field_has_a_mark() -> None:
    made = draft("models:\n  a.b:\n    bundle:\n    - x\n    - y\n")
    assert {path: mark[1:] for path, mark in made.marks.items() if path} == {
        "models": (1, 1),
        'models["a.b"]': (2, 3),
        'models["a.b"].bundle': (3, 5),
        'models["a.b"].bundle[0]': (4, 7),
        'models["a.b"].bundle[1]': (5, 7),
    }


def test_options_open_unions_and_keep_constraints() -> None:
    outer, inner = Meta(description="x"), Meta(max_length=3)
    found = options(Annotated[Annotated[str, inner] | int | None, outer])
    assert [option.base for option in found] == [str, int, type(None)]
    assert found[0].metas == (outer, inner)
    assert describe(options(int | Literal["newest"] | None)) == 'a whole number or "newest"'
    assert describe(options(ModelConfig)).startswith("a mapping with bundle, pull, serve")


class Crate(msgspec.Struct, forbid_unknown_fields=True):
    weight: int
    names: tuple[str, ...] = ()


def test_another_kind_of_document_is_converted_with_its_places() -> None:
    document, _ = read_document("crate.yaml", b"names: [a, b]\nweight: 3\n")
    assert document is not None
    value, marks, problems = convert_struct(document, Crate)
    assert value == Crate(weight=3, names=("a", "b"))
    assert (marks["names[1]"].line, marks["names[1]"].column) == (1, 12)
    assert not problems
    document, _ = read_document("crate.yaml", b"weight: heavy\n")
    assert document is not None
    value, _, problems = convert_struct(document, Crate)
    assert value is None
    assert [str(problem) for problem in problems] == [
        'crate.yaml:1:9: weight: found "heavy"; expected a whole number'
    ]


def test_a_word_or_a_list() -> None:
    made = draft("models: {a: {bundle: x, runtime: auto}, b: {bundle: x, runtime: [openvino]}}\n")
    assert [made.config.models[name].runtime for name in "ab"] == ["auto", ("openvino",)]
    (problem,) = draft("models: {a: {bundle: x, runtime: best}}\n").problems
    assert problem.message == 'found "best"; expected "auto" or a list'
