"""What a document over MQTT may say, and what its section in the configuration may."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import inspect

from edged.config.binding import BindingConfig
from edged.config.desired import _FILES, document_problems, version_in, version_of
from edged.config.load import ConfigProblemsError, load, read_document
from edged.config.pipeline import PipelineConfig
from edged.config.schema import ModelConfig

SECTION = "node: n\ntrust: {require_signatures: %s}\nmqtt: {host: b, desired: {%s}}\n"


def said(text: str) -> list[str]:
    root, problems = read_document("d", text.encode())
    assert root is not None, problems
    return [f"{one.line}:{one.column}: {one.path}" for one in document_problems(root)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("models: {m: {bundle: m-1.edgb}}\n", []),
        ("bindings: []\npipelines: {}\nmodels: {}\n", []),
        ("mqtt: {host: x}\n", ["1:1: mqtt"]),
        ("trust: {require_signatures: false}\naccess: {}\nlisten: {}\n",
         ["1:1: trust", "2:1: access", "3:1: listen"]),
        ("node: x\nstate_dir: /\nenvironment: [A]\nreload: {}\nlog: {level: debug}\n",
         ["1:1: node", "2:1: state_dir", "3:1: environment", "4:1: reload", "5:1: log"]),
        ("models: {m: {bundle: /etc/shadow}}\n", ["1:22: models.m.bundle"]),
        ("models: {m: {bundle: [a.edgb, ../b.edgb]}}\n", ["1:31: models.m.bundle[1]"]),
        ("bindings: [{schema: {descriptors: /x}}]\n", ["1:35: bindings[0].schema.descriptors"]),
        ("pipelines: {p: {steps: [{labels: {file: a/../../b}}]}}\n",
         ["1:41: pipelines.p.steps[0].labels.file"]),
        ("bindings: [{to: 'a/${HOME}'}]\n", ["1:17: bindings[0].to"]),
    ],
)  # fmt: skip
def test_what_a_document_may_say(text: str, places: list[str]) -> None:
    assert said(text) == places


@pytest.mark.parametrize(
    ("signed", "words", "problem"),
    [
        ("false", "", ""),
        ("true", "keys: [a.pub]", ""),
        ("true", "", "mqtt.desired.keys: names no key"),
        ("false", "keys: [a.pub], threshold: 2", "mqtt.desired.threshold: is more than the 1"),
        ("false", "keys: [a.pub, a.pub]", 'mqtt.desired.keys[1]: "a.pub" is listed twice'),
        ("false", "max_size: 2MiB", "mqtt.desired.max_size: is outside what can work"),
        ("false", "reconnect: 1ms", "mqtt.desired.reconnect: is outside what can work"),
    ],
)
def test_its_section(tmp_path: Path, signed: str, words: str, problem: str) -> None:
    (tmp_path / "edged.yaml").write_text(SECTION % (signed, words))
    if not problem:
        assert load(tmp_path).config.mqtt is not None
        return
    with pytest.raises(ConfigProblemsError) as caught:
        load(tmp_path)
    assert problem in str(caught.value)


def test_names() -> None:
    assert version_of("/s/desired/version-00000007.yaml") == 7
    assert version_of("/s/desired/version-123456789012345.yaml") == 123456789012345
    for name in ("edged.yaml", "conf.d/version-00000007.yaml", "/s/desired/version-x.yaml", "/s/a"):
        assert version_of(name) == 0
    assert version_in({"edged.yaml": b"", "/s/desired/version-00000007.yaml": b""}) == 7
    assert version_in({"edged.yaml": b""}) == 0


def files_in(kind: object, name: str = "") -> set[str]:
    """Names of the fields that hold a ``Path``, however deep."""
    if isinstance(kind, inspect.Metadata):
        return files_in(kind.type, name)
    if isinstance(kind, inspect.StrType):
        return {name} if (kind.min_length, kind.max_length) == (1, 1024) else set()
    found: set[str] = set()
    if isinstance(kind, inspect.UnionType):
        found = set().union(*(files_in(one, name) for one in kind.types))
    elif isinstance(kind, inspect.StructType):
        found = set().union(*(files_in(one.type, one.encode_name) for one in kind.fields))
    elif isinstance(kind, inspect.VarTupleType | inspect.ListType):
        found = files_in(kind.item_type, name)
    elif isinstance(kind, inspect.TupleType):
        found = set().union(*(files_in(one, name) for one in kind.item_types))
    elif isinstance(kind, inspect.DictType):
        found = files_in(kind.value_type, name)
    return found


def test_every_field_that_names_a_file_is_known() -> None:
    """One that is added to a model, pipeline or binding would let a document point anywhere."""
    kinds = inspect.multi_type_info([ModelConfig, PipelineConfig, BindingConfig])
    found = set().union(*map(files_in, kinds))
    assert found == _FILES
