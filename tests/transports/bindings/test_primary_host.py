"""Which STATE of a host application is believed."""

from __future__ import annotations

import logging

import pytest

from edged.transports.bindings.primary_host import PrimaryHost


def state(online: object, at_ms: object) -> bytes:
    return f'{{"online": {online}, "timestamp": {at_ms}}}'.encode()


@pytest.mark.parametrize(
    ("heard", "is_online"),
    [
        ([], False),
        ([state("true", 5)], True),
        ([state("false", 5)], False),
        ([state("true", 5), state("false", 5)], False),
        ([state("true", 5), state("false", 6)], False),
        ([state("true", 5), state("false", 4)], True),
        ([state("false", 5), state("true", 4)], False),
        ([state("true", 5), state("true", 9), state("false", 7)], True),
        ([b'{"online": true, "timestamp": 5, "more": [1]}'], True),
    ],
)
def test_what_is_older_is_not_believed(heard: list[bytes], is_online: bool) -> None:
    host = PrimaryHost("scada")
    assert host.topic == "spBv1.0/STATE/scada"
    for payload in heard:
        was = host.is_online
        assert host.hears(payload) == (host.is_online != was)
    assert host.is_online == is_online
    assert (host.problem is None) == is_online


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"ONLINE", b"\xff\xfe", b"[true, 5]", b'{"online": true}', state("1", 5),
        state("true", '"5"'), state("true", 1.5), b"[" * 900, b" " * 2000 + state("true", 5),
    ],
)  # fmt: skip
def test_what_is_no_state_changes_nothing_and_is_said_once(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    host = PrimaryHost("scada")
    host.hears(state("true", 5))
    with caplog.at_level(logging.WARNING):
        assert not any(host.hears(payload) for _ in range(9))
    assert host.is_online
    assert len(caplog.records) == 1
    assert "is no STATE of Sparkplug 3.0" in caplog.text


def test_each_connection_begins_anew() -> None:
    """A host whose clock was wrong once is not silent for ever."""
    host = PrimaryHost("scada")
    host.hears(state("true", 9_999))
    host.refusal = "not allowed"
    assert (
        host.problem == 'the broker refuses the subscription to "spBv1.0/STATE/scada": not allowed'
    )
    host.forget()
    assert host.problem == 'the primary host "scada" is not online'
    assert host.hears(state("true", 5))
