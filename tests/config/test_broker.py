"""What is wrong with what is said of brokers; cases/results.yaml has the words and the places."""

from __future__ import annotations

import pytest

from edged.config.broker import (
    OutboxConfig,
    ResultsConfig,
    Secret,
    TlsConfig,
    broker_files,
    login_problems,
    outbox_problems,
)
from edged.specs import Duration, Size


def logins(**words) -> list[str]:
    return [path for path, _ in login_problems(ResultsConfig(host="h", **words), "r")]


def test_logins():
    assert logins() == []
    assert logins(username="u", password=Secret(file="f"), tls=TlsConfig(cert="c", key="k")) == []
    assert logins(password=Secret(file="f", secret="s")) == ["r.password", "r.password"]
    assert logins(tls=TlsConfig(cert="c")) == ["r.tls.cert"]
    assert logins(tls=TlsConfig(key="k")) == ["r.tls.key"]
    assert logins(keepalive=Duration(0)) == ["r.keepalive"]
    assert logins(longest_pause=Duration(10**9)) == []
    assert logins(longest_pause=Duration(10**9 - 1)) == ["r.longest_pause"]
    assert logins(longest_pause=Duration(3601 * 10**9)) == ["r.longest_pause"]


def test_no_tls_on_a_unix_socket_for_any_broker():
    found = list(login_problems(ResultsConfig(host="/run/broker.sock", tls=TlsConfig()), "r"))
    words = "is of no use on a Unix socket, which r.host names; remove it"
    assert found == [("r.tls", words)]
    assert not list(login_problems(ResultsConfig(host="/run/broker.sock"), "r"))


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ({}, []),
        ({"max_bytes": Size((1 << 20) - 1)}, ["mqtt.outbox.max_bytes"]),
        ({"max_age": Duration(0)}, []),
        ({"max_age": Duration(10**9 - 1)}, ["mqtt.outbox.max_age"]),
        ({"max_age": Duration(10**9)}, []),
    ],
)
def test_the_outbox(words, wrong):
    assert [path for path, _ in outbox_problems(OutboxConfig(**words))] == wrong


def test_files():
    found = ResultsConfig(
        host="h", password=Secret(file="p"), tls=TlsConfig(ca="a", cert="c", key="k")
    )
    assert list(broker_files(found, "r")) == [
        ("r.password.file", "p"),
        ("r.tls.ca", "a"),
        ("r.tls.cert", "c"),
        ("r.tls.key", "k"),
    ]
    assert list(broker_files(ResultsConfig(host="h", password=Secret(secret="s")), "r")) == []
