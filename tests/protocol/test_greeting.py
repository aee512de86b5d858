"""HELLO and WELCOME, there and back."""

from __future__ import annotations

from edged.protocol import greeting
from edged.protocol.frames import Limits
from tests.fakes.wire import only


def test_hello():
    assert greeting.decode_hello(only(greeting.encode_hello("camera"))).client == "camera"


def test_welcome():
    limits = Limits()
    welcome = greeting.decode_welcome(only(greeting.encode_welcome("edged/0", limits, 16)))
    assert welcome == greeting.WelcomeHead("edged/0", limits.body_bytes, 16)
