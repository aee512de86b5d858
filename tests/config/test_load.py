"""Loading: golden cases, hostile bytes, caps, merging and trust in files.

Lines in quotes are those of the threat list, part F.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edged.config import load as loading
from edged.config.load import ConfigProblemsError, Problem, Snapshot, parse, read_document
from edged.config.scalars import format_value
from edged.config.source import Source
from edged.specs import Duration, Size

CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
MINIMAL = "trust: {require_signatures: false}\n"


def read(text: str | bytes, **more: str) -> Snapshot:
    data = text if isinstance(text, bytes) else text.encode()
    extra = {f"conf.d/{name}.yaml": value.encode() for name, value in more.items()}
    root = Path("/etc/edged")
    return parse(Source(root, {"edged.yaml": data, **extra}), root)


def refuse(text: str | bytes, **more: str) -> list[str]:
    with pytest.raises(ConfigProblemsError) as caught:
        read(text, **more)
    return [str(problem).replace("/etc/edged/", "") for problem in caught.value.problems]


def assert_read_or_refused(text: str | bytes) -> None:
    """Any other exception is the failure."""
    problems: tuple[Problem, ...] = ()
    try:
        snapshot = read(text)
    except ConfigProblemsError as exc:
        problems = exc.problems
    else:
        assert None not in snapshot.config.bindings
        return
    assert problems
    assert all(problem.file and problem.message for problem in problems)


def value_at(snapshot: Snapshot, path: str) -> str:
    found: object = snapshot.config
    for part in path.replace("[", ".").replace("]", "").split("."):
        if part.isdigit():
            found = found[int(part)]  # type: ignore[index]
        elif isinstance(found, dict):
            found = found[part]
        else:
            found = getattr(found, "from_" if part == "from" else part)
    return format_value(found)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_golden_case(case: Path) -> None:
    given_text, expected = case.read_text().split("\n----------\n")
    parts = given_text.split("\n=== ")
    files = dict(part.split("\n", 1) for part in parts[1:])
    more = {name.strip(): text for name, text in files.items()}
    wanted = [line for line in expected.splitlines() if line]
    if wanted[0].startswith("edged.yaml:") or wanted[0].startswith("conf.d/"):
        assert refuse(parts[0], **more) == wanted
        return
    snapshot = read(parts[0], **more)
    for line in wanted:
        path = line.partition(" = ")[0]
        assert f"{path} = {value_at(snapshot, path)}" == line


def test_there_are_golden_cases() -> None:
    assert len(CASES) >= 15


@pytest.mark.hostile("F1 a key twice")
def test_duplicate_key_refused_with_both_line_numbers() -> None:
    """ "duplicate key → refused with both line numbers." """
    (line,) = refuse("node: a\nlog: {level: info}\nnode: b\n")
    assert line.startswith("edged.yaml:3:")
    assert "first in line 1, again in line 3" in line


def test_duplicate_key_in_nested_and_quoted_spelling() -> None:
    (line,) = refuse('log:\n  level: info\n  "level": debug\n')
    assert "first in line 2, again in line 3" in line


BOMB = "\n".join(
    ["a: &a [x,x,x,x,x,x,x,x,x]"]
    + [f"{c}: &{c} [{','.join(['*' + p] * 9)}]" for p, c in zip("abcdefg", "bcdefgh", strict=True)]
)


@pytest.mark.hostile("F2 an alias bomb of 271 bytes")
def test_alias_bomb_refused() -> None:
    """ "271-byte alias bomb → refused." """
    assert len(BOMB) < 300
    started = time.process_time()
    lines = refuse(BOMB)
    assert time.process_time() - started < 1
    assert any("anchor &a is not allowed" in line for line in lines)
    assert any("alias *a is not allowed" in line for line in lines)


def test_the_alias_gate_is_what_refuses_the_bomb() -> None:
    """Negative control: the same text, constructed the usual way, has 43 million leaves."""

    def leaves(value: object) -> int:
        # All members of such a list are one object, so counting the first is counting each.
        return leaves(value[0]) * len(value) if isinstance(value, list) else 1

    built = yaml.safe_load(BOMB)
    assert leaves(built["h"]) == 9**8 == 43_046_721


@pytest.mark.hostile("F3 500 nested brackets")
def test_500_nested_brackets_refused() -> None:
    """ "500 nested brackets → refused as config error." """
    lines = refuse("models: " + "[" * 500 + "]" * 500)
    assert lines == ["edged.yaml:1:40: is nested deeper than 32 levels"]


def test_the_depth_cap_is_what_refuses_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_DEPTH", 10_000)
    lines = refuse("models: " + "[" * 500 + "]" * 500)
    assert not any("nested deeper" in line for line in lines)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n# here\n", "null\n", "~", "---\n...\n"])
@pytest.mark.hostile("F4 an empty file, comments only, or null")
def test_empty_refused(text: str) -> None:
    """ "empty file, only comments, `null` → refused, running config stays, nothing opens up." """
    (line,) = refuse(text)
    assert "says nothing" in line


def test_empty_drop_in_refused() -> None:
    (line,) = refuse(MINIMAL, a="# switched off\n")
    assert line.startswith("conf.d/a.yaml:1:1: says nothing")


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (b"node: a\nlog: {level: in\0fo}\n", "2:16", "NUL byte"),
        ("node: a\n".encode("utf-16"), "1:1", "UTF-16"),
        ("node: a\n".encode("utf-16-be"), "1:1", "NUL byte"),
        (b"node: a\nstate_dir: /v\xe4r\n", "2:14", "byte 0xe4 is not UTF-8"),
        (b"node: a\n\n# \xed\xa0\x80\n", "3:3", "byte 0xed is not UTF-8"),
        (b"node: a\x07b\n", "1:8", "U+0007"),
    ],
)
@pytest.mark.hostile("F5 NUL, UTF-16, broken UTF-8")
def test_encodings_refused_with_line(data: bytes, place: str, words: str) -> None:
    """ "NUL, UTF-16, bad UTF-8 → refused with line." """
    (line,) = refuse(data)
    assert line.startswith(f"edged.yaml:{place}: ")
    assert words in line


def test_a_byte_order_mark_is_read() -> None:
    assert read(b"\xef\xbb\xbfnode: a\n").config.node == "a"


@pytest.mark.hostile("F6 an unknown or misspelt key")
def test_unknown_name_refused_with_the_nearest() -> None:
    """ "unknown key or misspelling → refused with the nearest name." """
    (line,) = refuse("limits: {max_inflight: 3}\n")
    assert line.startswith('edged.yaml:1:10: limits.max_inflight: unknown name "max_inflight" ')
    assert '(did you mean "max_in_flight"?)' in line


@pytest.mark.hostile("F7 a model that is missing or fails its check")
def test_missing_model_refused() -> None:
    """ "config naming a missing or unverified model → whole change refused, old serves on." """
    binding = "bindings:\n- {name: a, from: a/b, model: gate}\nmqtt: {}\n"
    (line,) = refuse(MINIMAL + binding)
    assert line == 'edged.yaml:3:31: bindings[0].model: no model is named "gate"; models: none'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node: a\n---\nnode: b\n", "second document"),
        ("%TAG ! tag:x,2000:\n---\nnode: a\n", "%TAG"),
        ("node: !!str a\n", 'tag "tag:yaml.org,2002:str"'),
        ("node: !!python/object/apply:os.system [true]\n", "tag"),
        ("node: &x a\n", "anchor &x"),
        ("<<: {node: a}\n", 'unknown name "<<"'),
        ("? [a]\n: b\n", "cannot be a name"),
        ("[1, 2]\n", "must hold a mapping"),
        ("just text\n", "must hold a mapping"),
        ("node: [a\n", "cannot be read as YAML"),
        ("models: {a: {bundle: b}\nnode: x\n", "; it begins in line 1"),
        ("\tnode: a\n", "indent with spaces, no tabs"),
        ("node: 'a\n", "cannot be read as YAML"),
        (
            'models: {a: {bundle: "a\\0.edgb"}}\n',
            'edged.yaml:1:22: holds "\\0" or half a surrogate',
        ),
        ('labels: {"a\\0": b}\n', 'edged.yaml:1:10: holds "\\0" or half a surrogate'),
    ],
)
@pytest.mark.hostile("R15 no YAML tags")
def test_yaml_beyond_the_plain_kind_refused(text: str, words: str) -> None:
    assert any(words in line for line in refuse(text))


def test_node_cap() -> None:
    many = "models: {" + ", ".join(f"m{n}: {{bundle: x}}" for n in range(10_000)) + "}"
    started = time.process_time()
    (line,) = refuse(many)
    assert "more than 20000 values" in line
    assert time.process_time() - started < 2


def test_the_node_cap_is_what_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_NODES", 10**9)
    many = "models: {" + ", ".join(f"m{n}: {{bundle: x}}" for n in range(5_000)) + "}"
    assert len(read(MINIMAL + many).config.models) == 5000


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
def test_both_parsers_say_the_same(loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_LOADER", loader)
    assert refuse("node: a\nnode: *x\nlog: {level: loud}\n") == [
        'edged.yaml:2:1: "node" is set twice: first in line 1, again in line 2; remove one',
        "edged.yaml:2:7: alias *x is not allowed; write the value out",
        (
            'edged.yaml:3:14: log.level: found "loud"; '
            'expected one of "debug", "info", "warning", "error"'
        ),
    ]
    assert "cannot be read as YAML" in refuse("a: [\n")[0]
    (line,) = refuse('labels: {a: "\\ud800"}\n')
    assert "invalid Unicode" in line or "half a surrogate pair" in line


def test_every_problem_of_every_file_is_reported() -> None:
    lines = refuse("node: [a]\nlog: {level: loud}\n", a="node: *x\n", b="[1", c="runtime: 5\n")
    assert [line.split(" ")[0] for line in lines] == [
        "edged.yaml:1:7:",
        "edged.yaml:2:14:",
        "conf.d/a.yaml:1:7:",
        "conf.d/b.yaml:2:1:",
        "conf.d/c.yaml:1:10:",
    ]


def test_merge_names_both_places() -> None:
    model = "models: {digits: {bundle: a.edgb}}\n"
    lines = refuse(MINIMAL + model + "log: {level: info}\n", a=model, b="log: {level: debug}\n")
    once = "say it in one of the two places only"
    assert lines == [
        f"conf.d/a.yaml:1:10: models.digits: is already set at edged.yaml:2:10; {once}",
        f"conf.d/b.yaml:1:7: log.level: is already set at edged.yaml:3:7; {once}",
    ]


def test_marks_and_problems_of_later_stages() -> None:
    snapshot = read(MINIMAL + "models:\n  digits:\n    bundle: a.edgb\n")
    problem = snapshot.problem("models.digits.bundle", "signed by an unknown key")
    assert str(problem) == (
        "/etc/edged/edged.yaml:4:13: models.digits.bundle: signed by an unknown key"
    )
    nearest = snapshot.problem("models.digits.queue.max_rows", "too small")
    assert (nearest.line, nearest.column) == (3, 3)


def test_secrets_are_not_repeated() -> None:
    base = "mqtt: {username: u, password: "
    for value in ("hunter2", "{secret: 'hunter2 x'}", "{secret: [hunter2]}", "[hunter2]"):
        assert not any("hunter2" in line for line in refuse(base + value + "}\n"))


def test_values_keep_their_spelling() -> None:
    snapshot = read("mqtt: {username: no, client_id: 017, host: 1e3, keepalive: 1.5s}\n")
    mqtt = snapshot.config.mqtt
    assert mqtt is not None
    assert (mqtt.username, mqtt.client_id, mqtt.host) == ("no", "017", "1e3")
    assert mqtt.keepalive == 1_500_000_000
    assert isinstance(mqtt.keepalive, Duration)
    assert isinstance(read("limits: {max_request: 2MiB}\n").config.limits.max_request, Size)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    assert_read_or_refused(data)


WORDS = st.sampled_from(
    [
        "a",
        "node",
        "models",
        "bindings",
        "mqtt",
        "digits",
        "from",
        "to",
        "-",
        ":",
        "?",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&",
        "*",
        "!",
        "|",
        ">",
        "'",
        '"',
        "#",
        "%",
        "@",
        "`",
        "~",
        "null",
        "true",
        "017",
        "1e3",
        ".inf",
        "0",
        "-1",
        "&a",
        "*a",
        "!!x",
        "<<:",
        "trust:",
        "models:",
        "bindings:",
        "mqtt:",
        "...",
        "---",
        "^",
        "\\",
        "200ms",
    ]
)


@settings(max_examples=400)
@given(st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", "\n  ", ": ", ""])), max_size=30))
def test_random_yaml_raises_nothing_else(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + gap for word, gap in parts)
    assert_read_or_refused(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "node",
                    "models",
                    "bindings",
                    "mqtt",
                    "trust",
                    "keys",
                    "digits",
                    "bundle",
                    "serve",
                    "aliases",
                    "name",
                    "from",
                    "to",
                    "model",
                    "password",
                    "tls",
                    "queue",
                    "batching",
                    "fields",
                    "output",
                    "log",
                    "level",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(["models", "bindings", "mqtt", "trust", "log"]), VALUES))
@example({"models": None, "trust": {"keys": [None, None]}})
def test_random_structures_raise_nothing_else(value: dict[str, object]) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert_read_or_refused(text)


def test_read_document_never_raises_on_long_scalars() -> None:
    tree, problems = read_document("x", b"a: " + b"9" * 5000)
    assert tree is not None
    assert not problems
    assert "expected a whole number" in refuse("runtime: {threads: " + "9" * 5000 + "}")[0]
