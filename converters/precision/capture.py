"""A recording of MQTT messages as calibration rows, decoded as the daemon's binding will do it.

Reads what ``mosquitto_sub -F %j`` writes, a JSON object a line with ``topic`` and ``payload``, and,
because a JSON text cannot hold bytes (mosquitto_sub stops at the first NUL), the same with
``payload_hex``. Decides which messages count; what they hold is told by the daemon's codecs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from converters.errors import ConversionError
from converters.precision.calibration import MAX_ROWS
from converters.precision.left_out import LeftOut
from converters.recipe import Capture
from converters.samples import spread
from edged.errors import DecodeError, FieldError, InvalidRequestError
from edged.manifest import Manifest
from edged.processing.codecs import Codec, build_codec
from edged.processing.image import MAX_IMAGE_BYTES
from edged.specs import ImageInput
from edged.tensors import Array
from edged.topics import TopicFilter

ENDINGS = (".jsonl", ".ndjson")
LINE_CAP_BYTES = 2 * MAX_IMAGE_BYTES + (64 << 10)
"""The largest picture in hex; JSON payloads are far smaller."""
SHOWN_TOPICS = 3


class _Line(Struct):
    """What is read of a message; mosquitto_sub writes more."""

    topic: str
    payload: msgspec.Raw | UnsetType = UNSET
    payload_hex: str | UnsetType = UNSET
    payloadlen: int | UnsetType = UNSET


_LINES = msgspec.json.Decoder(_Line)


@dataclass
class Recording:
    """Messages of a file, decoded one after another.

    Args:
        path: the file.
        chosen: numbers of the lines that are used, from 1 on.
        total: how many messages count.
        others: messages on other topics.
        is_cut: whether the last line has no end.
        codec: the daemon's decoder.
        row_bytes: of one row; of an input with free axes, with 1 for each.
        topics: some topics that count, for messages.
    """

    path: Path
    chosen: frozenset[int]
    total: int
    others: int
    is_cut: bool
    codec: Codec
    row_bytes: int
    topics: tuple[str, ...]
    rows_used: int = 0
    left_out: LeftOut = field(init=False)

    def __post_init__(self) -> None:
        hint = (
            f"they came on {', '.join(self.topics)}: say which topic the model gets "
            "(--capture-topic) and in which form (capture in the recipe: codec, fields)"
        )
        self.left_out = LeftOut(self.path.name, "messages", len(self.chosen), hint)

    def chunks(self, rows: int) -> Iterator[dict[str, Array]]:
        """The messages' rows, at most so many at a time; what does not decode is left out.

        Raises:
            ConversionError: a line that is no message, or too many messages do not decode.
        """
        self.rows_used = 0
        ready: list[dict[str, Array]] = []
        for message in self._decoded():
            length = len(next(iter(message.values())))
            for at in range(length):
                row = {name: array[at : at + 1] for name, array in message.items()}
                if ready and (len(ready) == rows or _shapes(row) != _shapes(ready[0])):
                    yield _join(ready)
                    ready = []
                ready.append(row)
            self.rows_used += length
        if ready:
            yield _join(ready)
        self.left_out.check_enough(self.rows_used)

    def _decoded(self) -> Iterator[dict[str, Array]]:
        with _opened(self.path) as file:
            for number, line in _lines(self.path, file):
                if number not in self.chosen:
                    continue
                try:
                    found = self.codec.decode(_payload(_parse(self.path, number, line)))
                    _check_finite(found)
                except InvalidRequestError as exc:
                    self.left_out.add(f"line {number}", exc.message)
                else:
                    yield found

    def told(self) -> str:
        """How much of it is used, for the report."""
        used = len(self.chosen) - len(self.left_out.reasons)
        said = [f"{self.rows_used} rows in {used} of {self.total} messages", self.left_out.told()]
        if self.others:
            said.append(f"{self.others} on other topics")
        if self.is_cut:
            said.append("the last line is cut short and was left out")
        return ", ".join(part for part in said if part)

    def facts(self) -> dict[str, object]:
        """The same for the manifest, once all chunks were taken."""
        dropped = len(self.left_out.reasons)
        return {
            "kind": "capture",
            "messages": self.total,
            "messages_used": len(self.chosen) - dropped,
            "rows_used": self.rows_used,
            "left_out": dropped + self.is_cut,
        }


def open_capture(path: Path, manifest: Manifest, capture: Capture) -> Recording:
    """Look through a recording.

    Args:
        path: the file.
        manifest: what the bundle will say of the model's inputs.
        capture: which messages the model gets, and in which form.

    Raises:
        ConversionError: no such recording, no message of that topic, or a form that the model
            cannot get.
    """
    where = f'calibration "{path.name}"'
    try:
        wanted = TopicFilter.parse(capture.topic or "#", "topic")
        codec = _build(manifest, capture)
    except FieldError as exc:
        raise ConversionError(f"{where}, capture: {exc}") from exc
    numbers: list[int] = []
    others: dict[str, int] = {}
    topics: dict[str, None] = {}
    is_cut = False
    with _opened(path) as file:
        for number, line in _lines(path, file):
            if not line.endswith(b"\n") and not _is_whole(line):
                is_cut = True
                continue
            topic = _parse(path, number, line).topic
            if wanted.match(topic) is None:
                others[topic] = others.get(topic, 0) + 1
                continue
            numbers.append(number)
            if len(topics) < SHOWN_TOPICS:
                topics[f'"{topic}"'] = None
    if not numbers:
        seen = ", ".join(f'"{topic}"' for topic in list(others)[:SHOWN_TOPICS])
        wanted_topic, got = capture.topic or "#", seen or "no whole message"
        raise ConversionError(f'{where}: expected messages on "{wanted_topic}", got {got}')
    chosen = frozenset(numbers[index] for index in spread(len(numbers), MAX_ROWS))
    other = sum(others.values())
    size = _row_bytes(manifest)
    return Recording(path, chosen, len(numbers), other, is_cut, codec, size, tuple(topics))


def _build(manifest: Manifest, capture: Capture) -> Codec:
    kind = capture.codec
    if kind == "auto":
        works = manifest.input_processing.values()
        kind = "image" if any(isinstance(work, ImageInput) for work in works) else "json"
    return build_codec(kind, manifest, input_name=capture.input, fields=capture.fields)


def _row_bytes(manifest: Manifest) -> int:
    total = 0
    for spec in manifest.input_specs():
        sizes = [axis for axis in spec.shape[1:] if isinstance(axis, int)]
        total += int(np.prod(sizes)) * np.dtype(spec.dtype).itemsize
    return total


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as exc:
        raise ConversionError(f'calibration "{path}": {exc.strerror}') from exc


def _lines(path: Path, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that hold something, by their number."""
    number = 0
    while line := file.readline(LINE_CAP_BYTES):
        number += 1
        if len(line) == LINE_CAP_BYTES:
            raise ConversionError(
                f'calibration "{path.name}", line {number}: over {LINE_CAP_BYTES} bytes; is this a '
                "recording of messages?"
            )
        if line.strip():
            yield number, line


def _is_whole(line: bytes) -> bool:
    try:
        _LINES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _parse(path: Path, number: int, line: bytes) -> _Line:
    try:
        return _LINES.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ConversionError(
            f'calibration "{path.name}", line {number}: expected a message as mosquitto_sub -F %j '
            f'writes it, {{"topic":…,"payload":…}}, got {line[:40]!r} ({exc})'
        ) from exc


def _payload(line: _Line) -> bytes:
    """The message's bytes.

    Raises:
        DecodeError: they are not there, or not all of them.
    """
    if isinstance(line.payload_hex, str):
        try:
            return bytes.fromhex(line.payload_hex)
        except ValueError as exc:
            raise DecodeError(f"payload_hex: {exc}") from exc
    if isinstance(line.payload, UnsetType):
        raise DecodeError("has neither payload nor payload_hex")
    raw = bytes(line.payload)
    if not raw.startswith(b'"'):
        return raw  # mosquitto_sub -F %J puts JSON into the line as it is
    text: str = msgspec.json.decode(raw)
    data = text.encode("utf-8", "surrogatepass")
    if isinstance(line.payloadlen, int) and line.payloadlen != len(data):
        raise DecodeError(
            f"the payload had {line.payloadlen} bytes and is {len(data)} here: text does not hold "
            'bytes; record payload_hex with -F \'{"topic":"%t","payload_hex":"%x"}\''
        )
    return data


def _check_finite(found: dict[str, Array]) -> None:
    for name, array in found.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DecodeError(f'input "{name}": holds NaN or infinity')


def _shapes(row: dict[str, Array]) -> list[tuple[int, ...]]:
    return [array.shape for array in row.values()]


def _join(rows: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
