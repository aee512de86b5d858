"""Frames of passed memory: both ways, and the examples of docs/protocol.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edged.errors import InvalidRequestError
from edged.protocol import memory
from edged.protocol.frames import Frame, FrameReader, Kind, Limits, encode_frame
from edged.protocol.memory import BindHead, LentHead, Source, Target
from tests.fakes.wire import joined, only

DOC = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
BIND = BindHead(1, 1, [Source(1, 0), Source(1, 64)], [Target(1, 128, 8)])


def block(name: str) -> bytes:
    text = re.search(rf"```hex {name}\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert text, f"docs/protocol.md has no example {name}"
    return bytes.fromhex("".join(line.partition("#")[0] for line in text[1].splitlines()))


def read(name: str) -> Frame:
    (frame,) = FrameReader(Limits()).feed(block(name))
    return frame


class TestExamples:
    def test_are_what_is_written(self):
        assert block("lend") == joined(memory.encode_lend(10, 4096))
        assert block("ready") == joined(memory.encode_ready(10))
        assert block("pass") == joined(memory.encode_pass(11))
        assert block("lent") == joined(memory.encode_lent(11, 1, is_writable=True))
        assert block("bind") == joined(memory.encode_bind(12, BIND))
        assert block("bound") == joined(memory.encode_bound(12, 2))
        assert block("recall") == joined(memory.encode_recall(1))
        assert block("near") == joined(memory.encode_near(3))

    def test_are_what_is_read(self):
        assert memory.decode_lend(read("lend")) == 4096
        assert (read("ready").kind, read("ready").request_id) == (Kind.READY, 10)
        assert (read("pass").kind, read("pass").request_id) == (Kind.PASS, 11)
        assert memory.decode_lent(read("lent")) == LentHead(1, True)
        assert memory.decode_bind(read("bind"), Limits()) == BIND
        assert memory.decode_bound(read("bound")) == 2
        assert memory.decode_recall(read("recall")) == 1
        assert memory.decode_near(read("near")) == 3


class TestDecode:
    def test_outputs_may_be_left_out(self):
        frame = only(encode_frame(Kind.BIND, 1, b"\x93\x01\x00\x91\x92\x01\x00", []))
        assert memory.decode_bind(frame, Limits()) == BindHead(1, 0, [Source(1, 0)])

    @pytest.mark.parametrize("size", [0, -1])
    def test_no_memory_at_all(self, size: int):
        with pytest.raises(InvalidRequestError, match="expected 1 or more"):
            memory.decode_lend(only(memory.encode_lend(1, size)))

    @pytest.mark.parametrize("which", ["inputs", "outputs"])
    def test_too_many_places(self, which: str):
        sources, targets = [Source(1, 0)] * 3, [Target(1, 0, 1)] * 3
        head = BindHead(1, 0, sources if which == "inputs" else [], targets)
        with pytest.raises(InvalidRequestError, match="3 tensors; the limit is 2"):
            memory.decode_bind(only(memory.encode_bind(1, head)), Limits(tensors=2))

    @pytest.mark.parametrize("head", [b"", b"\x90", b"\x91\xa1x", b"\x81\x01\x01", b"\xc1"])
    def test_malformed(self, head: bytes):
        for kind, decode in [
            (Kind.LEND, memory.decode_lend),
            (Kind.LENT, memory.decode_lent),
            (Kind.RECALL, memory.decode_recall),
            (Kind.NEAR, memory.decode_near),
            (Kind.BIND, lambda frame: memory.decode_bind(frame, Limits())),
            (Kind.BOUND, memory.decode_bound),
        ]:
            with pytest.raises(InvalidRequestError, match="malformed head"):
                decode(only(encode_frame(kind, 1, head, [])))
