"""Differences, field by field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config import diff as diffing
from edged.config.diff import Change, diff, format_changes
from edged.config.load import parse
from edged.config.schema import Config
from edged.config.source import Source

BASE = """
trust: {require_signatures: false}
mqtt: {host: broker}
models:
  digits: {bundle: a.edgb, aliases: {champion: 1}}
bindings:
  - {name: one, from: in/1, model: digits}
  - {name: two, from: in/2, model: digits}
"""


def config(text: str) -> Config:
    root = Path("/etc/edged")
    return parse(Source(root, {"edged.yaml": text.encode()}), root).config


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("", "", []),
        ("bundle: a.edgb", "bundle: b.edgb", ["~ models.digits.bundle: a.edgb -> b.edgb"]),
        ("bundle: a.edgb", "bundle: [a.edgb]", ["~ models.digits.bundle: a.edgb -> [a.edgb]"]),
        ("champion: 1", "champion: 2", ["~ models.digits.aliases.champion: 1 -> 2"]),
        ("{champion: 1}", "{rival: 2}", ["- models.digits.aliases.champion: 1", "+ models.digits.aliases.rival: 2"]),
        ("models:\n", "models:\n  gate: {bundle: g.edgb, required: false}\n", ["+ models.gate: {bundle: g.edgb, required: false}"]),
        ("{host: broker}", "{host: broker, tls: {}}", ["+ mqtt.tls"]),
        ("{host: broker}", "{host: broker, keepalive: 1min}", ["~ mqtt.keepalive: 30s -> 1min"]),
        ("  - {name: one, from: in/1, model: digits}\n", "", ["- bindings.one: {name: one, from: in/1, model: digits}"]),
        ("in/2, model", "in/3, to: out, model", ["~ bindings.two.from: in/2 -> in/3", "~ bindings.two.to: null -> out"]),
        ("trust:", "log: {level: debug}\ntrust:", ["~ log.level: info -> debug"]),
    ],
)  # fmt: skip
def test_rows(old: str, new: str, lines: list[str]) -> None:
    assert format_changes(diff(config(BASE), config(BASE.replace(old, new, 1)))) == "\n".join(lines)


def test_order_of_bindings_and_models_is_no_difference() -> None:
    one, two = BASE.splitlines()[-2:]
    swapped = BASE.replace(one, "X").replace(two, one).replace("X", two)
    assert diff(config(BASE), config(swapped)) == []


def test_sections_come_and_go() -> None:
    bare = config("node: a\n")
    full = config("node: a\nmqtt: {host: b}\n")
    assert diff(bare, full) == [Change("add", "mqtt", None, full.mqtt)]
    assert diff(full, bare) == [Change("remove", "mqtt", full.mqtt, None)]


MODELS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x.edgb", "y.edgb"]))


@given(MODELS, MODELS)
def test_there_and_back(old: dict[str, str], new: dict[str, str]) -> None:
    def build(models: dict[str, str]) -> Config:
        inner = ", ".join(f"{name}: {{bundle: {path}}}" for name, path in models.items())
        return config(f"trust: {{require_signatures: false}}\nmodels: {{{inner}}}\n")

    opposite = {"add": "remove", "remove": "add", "change": "change"}
    there, back = diff(build(old), build(new)), diff(build(new), build(old))
    assert [Change(opposite[c.action], c.path, c.after, c.before) for c in there] == back
    assert (not there) == (old == new)


def test_what_is_alike_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop, while others wait: of 200 models, the one that is another."""
    models = "".join(f"  m{number}: {{bundle: a.edgb}}\n" for number in range(200))
    old = config(f"trust: {{require_signatures: false}}\nmodels:\n{models}")
    new = config(
        f"trust: {{require_signatures: false}}\nmodels:\n{models}".replace(
            "m7: {", "m7: {serve: 2, "
        )
    )
    looked = []
    fields = diffing._fields
    monkeypatch.setattr(diffing, "_fields", lambda cls: looked.append(cls) or fields(cls))
    assert [change.path for change in diff(old, new)] == ["models.m7.serve"]
    assert len(looked) == 2  # the whole, and that model
