"""Captures: what is written is read again, and what is none of ours is refused by its line."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.commands.capture import CaptureWriter, read_capture, shown
from edged.errors import InvalidRequestError
from edged.protocol.broker_session import Message

HEAD = '{"edged":"capture","version":1}\n'


def message(payload: bytes = b"{}", topic: str = "in/1", **words) -> Message:
    return Message(1, 1, topic, payload, 1, False, False, time.monotonic_ns())._replace(**words)


def write(path, *messages, most=100, size=1 << 20) -> CaptureWriter:
    with CaptureWriter(path, max_messages=most, max_bytes=size) as capture:
        for one in messages:
            capture.add(one)
    return capture


def test_every_property_comes_back(tmp_path):
    first = message(
        b"\xff\x00", response_topic="reply", correlation=b"\x01", expiry_s=5, content_type="a/b"
    )
    second = message("gr\u00fc\u00dfe".encode(), qos=0, retain=True)
    write(tmp_path / "c", first, second)
    for before, after in zip((first, second), read_capture(tmp_path / "c"), strict=True):
        same = {"connection": 1, "mid": 0, "arrived_ns": 0}
        assert after._replace(**same) == before._replace(**same)


def test_caps_and_no_overwriting(tmp_path):
    assert write(tmp_path / "few", *[message()] * 5, most=2).messages == 2
    small = write(tmp_path / "small", *[message(b"x" * 100)] * 50, size=1000)
    assert small.is_full
    assert (tmp_path / "small").stat().st_size == small.bytes <= 1000
    assert (tmp_path / "small").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidRequestError, match="is there already; name another"):
        write(tmp_path / "few")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{}\n", ":1: is no capture"),
        ("\xff\n", ":1: is no capture"),
        ("[" * 5000 + "\n", ":1: is no capture"),
        (HEAD + "nonsense\n", ":2: is no message"),
        (HEAD + '\n{"topic":"a"}\n', ":3: needs exactly one"),
        (HEAD + '{"topic":"a","payload":"","payload_base64":""}\n', ":2: needs exactly one"),
        (HEAD + '{"topic":"a","payload_base64":"?"}\n', ":2: is no message"),
        (HEAD + '{"topic":"a","payload":"","qos":7}\n', ":2: qos"),
        (HEAD + '{"topic":"a","payload":"","expiry_s":-1}\n', ":2: qos or expiry_s"),
    ],
)
def test_what_is_no_capture_is_said(tmp_path, text, said):
    path = tmp_path / "c"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InvalidRequestError, match=said):
        list(read_capture(path))
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        list(read_capture(tmp_path / "absent"))


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("c") / "c"
    path.write_bytes(HEAD.encode() + data)
    with contextlib.suppress(InvalidRequestError):
        assert all(isinstance(one, Message) for one in read_capture(path))


def test_payloads_for_people():
    assert shown(b'{"a": 1}') == '{"a": 1}'
    assert shown(b"\x1b[2J") == "\\x1b[2J", "a terminal obeys nothing that a device sent"
    assert shown(b"\xff" * 100).startswith("(100 bytes) ")
    assert shown(b"x" * 50, 10) == "xxxxxxxxxx… (50 bytes)"
