"""YAML files become one frozen Snapshot, or a list of every problem in them.

Decides what YAML is accepted: one document of mappings, lists and scalars; no aliases, tags,
duplicate keys or implicit types, all within caps. This is the only module that knows YAML; it
composes the tree from parser events itself, so nothing is constructed that the caps did not see.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml
from msgspec import structs

from edged.config import saved
from edged.config.check import check
from edged.config.convert import convert_config
from edged.config.desired import document_problems, version_of
from edged.config.document import Broken, Entry, ListNode, MapNode, Node, Scalar, merge
from edged.config.documents import Document, read_current
from edged.config.environment import substitute
from edged.config.problems import ConfigProblemsError, Mark, Problem, problem_at, quote
from edged.config.saved import save
from edged.config.snapshot import Snapshot, check_files, full_digest
from edged.config.source import Source, read_source
from edged.system.breath import breathe

__all__ = [
    "ConfigProblemsError",
    "Problem",
    "Snapshot",
    "check_files",
    "full_digest",
    "load",
    "load_saved",
    "parse",
    "read_document",
    "save",
    "takes_documents",
    "with_document",
]

MAX_NODES = 20_000
"""A large site has some hundred bindings of ten nodes; building 60,000 keys took seconds."""
MAX_DEPTH = 32
"""The schema is six levels deep; parsers that recurse die at some hundred."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What YAML calls printable; the rest is refused with its place instead of a parser's byte offset.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

# What an escape in quotes can make all the same, and no path, topic or document can carry.
_UNSAYABLE = re.compile("[\0\ud800-\udfff]")


class _RefusedError(Exception):
    """Reading of this file ends here."""

    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


def load(path: Path, documents: Path | None = None) -> Snapshot:
    """Read, merge and check a configuration.

    A document that came over MQTT is the last of the files. Where it does not agree with the
    operator's, these are in effect without it, and ``left_out`` says why.

    Args:
        path: edged.yaml, or the directory that holds it; conf.d beside it is read too.
        documents: where documents lie (``documents.py``); None to look at no document.

    Returns:
        The snapshot; referenced bundles and keys are not opened (``check_files`` does that).

    Raises:
        ConfigProblemsError: carries every problem found, not only the first.
    """
    source = read_source(path)
    document = read_current(documents) if documents is not None else None
    if document is None:
        return parse(source, source.root)
    try:
        whole = parse(with_document(source, document), source.root)
    except ConfigProblemsError as exc:
        try:
            alone = parse(source, source.root)
        except ConfigProblemsError:
            raise exc from None
        return replace(alone, left_out=exc.problems) if takes_documents(alone) else alone
    return whole if takes_documents(whole) else parse(source, source.root)


def with_document(source: Source, document: Document) -> Source:
    """The operator's files and, last, a document."""
    return Source(source.root, {**source.files, document.name: document.data})


def takes_documents(snapshot: Snapshot) -> bool:
    """Whether the operator lets documents come over MQTT at all."""
    mqtt = snapshot.config.mqtt
    return mqtt is not None and mqtt.desired is not None


def load_saved(directory: Path) -> Snapshot:
    """Read the copy that ``save`` wrote; relative paths resolve against the original directory.

    Raises:
        ConfigProblemsError: there is no copy, or it is damaged.
    """
    source, shown = saved.read_saved(directory)
    return parse(source, shown)


def parse(source: Source, shown: Path) -> Snapshot:
    """Turn bytes, and the environment where they ask for it, into a snapshot; no file is touched.

    Args:
        source: the files' bytes and the directory that relative paths start from.
        shown: the directory that problems name.

    Raises:
        ConfigProblemsError: carries every problem found.
    """
    problems: list[Problem] = []
    documents: list[MapNode] = []
    for name, data in source.files.items():
        document, found = read_document(str(shown / name), data)
        problems += found
        if document is not None:
            documents.append(document)
            if version_of(name):
                problems += document_problems(document)
    is_whole = len(documents) == len(source.files)
    if not documents:
        raise ConfigProblemsError(problems or [Problem(str(shown), 0, 0, "", "holds no files")])
    breathe()
    merged, found = merge(documents)
    problems += found
    breathe()
    substitution = substitute(merged, os.environ)
    problems += substitution.problems
    draft = convert_config(substitution.root)
    problems += draft.problems
    if is_whole:
        # With a file missing, half of these would complain about what stands in that file.
        problems += check(draft)
    if problems:
        order = {str(shown / name): index for index, name in enumerate(source.files)}
        raise ConfigProblemsError(
            sorted(
                dict.fromkeys(problems),
                key=lambda p: (order.get(p.file, -1), p.line, p.column, p.path),
            )
        )
    trust = source.trust
    breathe()
    snapshot = Snapshot(
        config=draft.config if trust is None else structs.replace(draft.config, trust=trust),
        root=source.root,
        files=dict(source.files),
        marks=draft.marks,
        environment=substitution.used,
        narrowed=trust,
    )
    return snapshot.with_absolute_socket()


def read_document(file: str, data: bytes) -> tuple[MapNode | None, list[Problem]]:
    """Read one file into a tree of texts.

    Args:
        file: the name that problems show.
        data: its bytes.

    Returns:
        The tree, or None when nothing of it can be used; and the problems.
    """
    problems: list[Problem] = []
    try:
        breathe()
        text = _decode(file, data)
        breathe()
        composer = _Composer(file, text, problems)
        breathe()
        return composer.document(), problems
    except _RefusedError as exc:
        problems.append(problem_at(exc.mark, "", exc.message))
    except yaml.YAMLError as exc:
        problems.append(_syntax_problem(file, exc))
    except (ValueError, RecursionError, OverflowError, MemoryError) as exc:
        # Nothing above should let these out; a parser that does must still not end the daemon.
        problems.append(Problem(file, 0, 0, "", f"is not YAML that can be read ({exc})"))
    return None, problems


def _decode(file: str, data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _RefusedError(Mark(file, 1, 1), "is UTF-16; save it as UTF-8")
    body = data[3:] if data.startswith(b"\xef\xbb\xbf") else data
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = body[: exc.start].decode("utf-8")
        found = f"byte 0x{body[exc.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _RefusedError(_place(file, before), found) from None
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        code = ord(bad[0])
        name = "a NUL byte (UTF-16 without a mark, or a damaged file?)" if code == 0 else "it"
        found = f"character U+{code:04X} is not allowed in YAML; remove {name}"
        raise _RefusedError(_place(file, text[: bad.start()]), found)
    return text


def _place(file: str, before: str) -> Mark:
    return Mark(file, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _syntax_problem(file: str, exc: yaml.YAMLError) -> Problem:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    words = [getattr(exc, "context", None), getattr(exc, "problem", None)]
    said = ", ".join(word for word in words if word) or "not YAML"
    hint = "; indent with spaces" if "'\\t'" in said or "tab" in said else ""
    if "cannot start any token" in said:  # libyaml does not say which
        hint = "; indent with spaces, no tabs, and quote text that begins with @, % or a backquote"
    begun = getattr(exc, "context_mark", None)
    if begun is not None and mark is not None and begun.line != mark.line:
        hint += f"; it begins in line {begun.line + 1}"
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    return Problem(file, line, column, "", f"cannot be read as YAML: {said}{hint}")


class _Composer:
    """Builds the tree from parser events, within the caps."""

    def __init__(self, file: str, text: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._nodes = 0
        self._loader = _LOADER(text)
        self._next: Callable[[], Any] = self._loader.get_event

    def document(self) -> MapNode | None:
        """The one document of the file; None after a problem that leaves nothing to check."""
        try:
            return self._document()
        finally:
            self._loader.dispose()

    def _document(self) -> MapNode | None:
        self._next()  # the stream's start
        start = self._next()
        nothing = "says nothing; an empty file is refused because it may be half written"
        if not isinstance(start, yaml.DocumentStartEvent):
            self._refuse(Mark(self._file, 1, 1), nothing)
        if start.tags:
            self._complain(start, "%TAG lines are not allowed; remove it")
        root = self._node(self._next(), 1)
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(self._mark(after), "starts a second document; use one file for each")
        if isinstance(root, Scalar) and root.is_null:
            self._refuse(root.mark, nothing)
        if isinstance(root, (Scalar, ListNode)):
            self._refuse(root.mark, "must hold a mapping (name: value), not a list or a value")
        return root if isinstance(root, MapNode) else None

    def _mark(self, event: Any) -> Mark:
        start = event.start_mark
        return Mark(self._file, start.line + 1, start.column + 1)

    def _refuse(self, mark: Mark, message: str) -> NoReturn:
        raise _RefusedError(mark, message)

    def _complain(self, event: Any, message: str) -> None:
        self._problems.append(problem_at(self._mark(event), "", message))

    def _node(self, event: Any, depth: int) -> Node:
        breathe()
        mark = self._mark(event)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(mark, f"has more than {MAX_NODES} values; split it or make it smaller")
        if depth > MAX_DEPTH:
            self._refuse(mark, f"is nested deeper than {MAX_DEPTH} levels")
        kind = type(event)
        if kind is yaml.AliasEvent:
            self._complain(event, f"alias *{event.anchor} is not allowed; write the value out")
            return Broken(mark)
        if event.anchor is not None:
            self._complain(event, f"anchor &{event.anchor} is not allowed; remove it")
        if event.tag is not None:
            self._complain(event, f"tag {quote(event.tag)} is not allowed; remove it")
        if kind is yaml.ScalarEvent:
            if _UNSAYABLE.search(event.value):
                self._complain(event, 'holds "\\0" or half a surrogate pair; remove it')
                return Broken(mark)
            return Scalar(mark, event.value, not event.style)
        if kind is yaml.SequenceStartEvent:
            return self._list(mark, depth)
        return self._mapping(mark, depth)

    def _list(self, mark: Mark, depth: int) -> ListNode:
        node = ListNode(mark)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            node.items.append(self._node(event, depth + 1))
        return node

    def _mapping(self, mark: Mark, depth: int) -> MapNode:
        node = MapNode(mark)
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            if not isinstance(key, Scalar):
                if not isinstance(key, Broken):
                    self._complain(event, "a list or mapping cannot be a name")
                continue
            first = node.entries.get(key.text)
            if first is None:
                node.entries[key.text] = Entry(key.mark, value)
                continue
            again = f"first in line {first.key.line}, again in line {key.mark.line}"
            text = f"{quote(key.text)} is set twice: {again}; remove one"
            self._problems.append(problem_at(key.mark, "", text))
        return node
