"""Configuration that comes over MQTT: who may send it, and what a document from afar may say.

Decides from words and trees alone. A document lies beside the operator's files as one more of them;
it says only what they do not say, and never what would let its sender further in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated

from msgspec import Meta

from edged.config.document import ListNode, MapNode, Node, Scalar
from edged.config.problems import Problem, did_you_mean, field_path, problem_at, quote
from edged.config.section import Path, Section
from edged.specs import Duration, Size

SECTIONS = ("models", "pipelines", "bindings")
"""What a document may hold. The rest says who is let in, where, and how much of the device."""
_FILES = frozenset({"bundle", "descriptors", "characters", "file"})
"""Fields of those sections that name files."""
_NAME = re.compile(r"/.*/version-([0-9]{1,15})\.yaml", re.ASCII | re.DOTALL)
_NO_KEYS = (
    "names no key, so no document can be accepted; make one with `edged-convert keygen` and list "
    "its .pub file here"
)
UNSIGNED = (
    "takes configuration from ANYBODY who may publish to config/desired: there are no keys, which "
    "is for a test bench"
)
_LONGEST_NS = 3600 * 10**9


class DesiredConfig(Section, frozen=True, kw_only=True):
    """Configuration from ``<base>/config/desired``; left out, the topic is not even read."""

    keys: Annotated[
        tuple[Path, ...],
        Meta(
            description="files with Ed25519 public keys whose documents are taken; they are not "
            "those of trust, which sign bundles"
        ),
    ] = ()
    threshold: Annotated[int, Meta(ge=1, le=16, description="distinct keys that must sign")] = 1
    max_size: Annotated[Size, Meta(description="bytes of one message")] = Size(256 << 10)
    reconnect: Annotated[
        Duration,
        Meta(description="so long may the broker be away until a document must prove itself anew"),
    ] = Duration(60_000_000_000)


def desired_problems(
    desired: DesiredConfig, *, require_signatures: bool
) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them.

    Args:
        desired: the section.
        require_signatures: what ``trust`` says of bundles; a configuration is no less.
    """
    keys = desired.keys
    if require_signatures and not keys:
        yield "mqtt.desired.keys", _NO_KEYS
    elif keys and desired.threshold > len(set(keys)):
        yield "mqtt.desired.threshold", f"is more than the {len(set(keys))} keys; lower it"
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield f"mqtt.desired.keys[{index}]", f"{quote(key)} is listed twice; remove one"
    if not 1 << 10 <= desired.max_size <= 1 << 20:
        yield "mqtt.desired.max_size", "is outside what can work; expected 1KiB to 1MiB"
    if not 10**9 <= desired.reconnect <= _LONGEST_NS:
        yield "mqtt.desired.reconnect", "is outside what can work; expected 1s to 1h"


def version_of(name: str) -> int:
    """Of a file's name among those of a configuration: the version it came as; 0 for no document.

    Operators' files have names relative to their folder, documents absolute ones.
    """
    match = _NAME.fullmatch(name)
    return int(match[1]) if match is not None else 0


def version_in(files: Mapping[str, bytes]) -> int:
    """The version of the document among the files of a configuration; 0 for none."""
    return max(map(version_of, files), default=0)


def document_problems(root: MapNode) -> list[Problem]:
    """What a document says and must not.

    Args:
        root: the document as it was written.
    """
    problems = []
    for key, entry in root.entries.items():
        if key not in SECTIONS:
            near = did_you_mean(key, SECTIONS)
            text = f"is not for a document over MQTT{near}; it may hold: {', '.join(SECTIONS)}"
            problems.append(problem_at(entry.key, key, text))
        else:
            problems += _walk(entry.value, key, "")
    return problems


def _walk(node: Node, path: str, field: str) -> Iterator[Problem]:
    if isinstance(node, Scalar):
        if "${" in node.text:
            text = "takes no ${NAME} in a document over MQTT: the environment is this device's own"
            yield problem_at(node.mark, path, text)
        elif field in _FILES and not _is_inside(node.text):
            text = "must be a path below the configuration's folder in a document over MQTT"
            yield problem_at(node.mark, path, text)
    elif isinstance(node, ListNode):
        for index, item in enumerate(node.items):
            yield from _walk(item, field_path(path, index), field)
    elif isinstance(node, MapNode):
        for key, entry in node.entries.items():
            yield from _walk(entry.value, field_path(path, key), key)


def _is_inside(text: str) -> bool:
    path = PurePosixPath(text)
    return not path.is_absolute() and ".." not in path.parts
