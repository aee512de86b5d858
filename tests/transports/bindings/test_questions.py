"""Questions about the daemon over MQTT: who is answered where, and what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from edged.errors import ModelNotFoundError
from edged.transports.bindings.questions import QUESTION_CAP_BYTES, RATE, Questions
from tests.fakes.session import FakeSession, settle


async def models(arguments):
    return [{"name": "m", **arguments}]


async def manifest(arguments):
    raise ModelNotFoundError(f"no model {arguments.get('model')}")


async def broken(_):
    raise ZeroDivisionError


CALLS = {"models": models, "manifest": manifest, "status": broken}


def ask(*questions, limit=None, calls=CALLS):
    """Each is (op, payload, properties); returns the session and the figures."""

    async def main():
        session = FakeSession()
        found = Questions(session, "edged/n", calls, lambda topic: topic.startswith("in/"))
        found.start()
        session.connect(limit=limit)
        for op, payload, words in questions:
            session.receive(f"edged/n/req/{op}", payload, **words)
        await settle()
        await found.stop()
        return session, found

    return asyncio.run(main())


def test_an_answer_where_it_was_wanted_or_where_everybody_looks():
    session, found = ask(
        ("models", b"", {}),
        ("models", b'{"x": 1, "transaction": 7}', {"response_topic": "r/1", "correlation": b"c"}),
        ("models", b"{}", {"response_topic": "edged/n/res/models/me"}),
    )
    assert session.of("subscribe") == [[(f"edged/n/req/{op}", 1) for op in CALLS]]
    first, second, third = session.of("publish")
    assert (first.topic, first.retain) == ("edged/n/res/models", False)
    assert json.loads(first.payload) == {"status": "ok", "data": [{"name": "m"}]}
    assert (second.topic, second.correlation) == ("r/1", b"c")
    assert json.loads(second.payload) == {
        "status": "ok",
        "data": [{"name": "m", "x": 1}],
        "transaction": 7,
    }
    assert third.topic == "edged/n/res/models/me"
    assert (found.answered, len(session.acked)) == (3, 3)


@pytest.mark.parametrize(
    ("op", "payload", "code"),
    [
        ("manifest", b'{"model": "x"}', "NOT_FOUND"),
        ("status", b"", "INTERNAL"),
        ("models", b"nonsense", "INVALID_ARGUMENT"),
        ("models", b"\xff", "INVALID_ARGUMENT"),
        ("models", b"[]", "INVALID_ARGUMENT"),
        ("models", b"[" * 4000, "INVALID_ARGUMENT"),
        ("models", b'{"transaction": []}', "INVALID_ARGUMENT"),
        ("models", b'{"transaction": true}', "INVALID_ARGUMENT"),
        ("models", b'{"transaction": "' + b"x" * 300 + b'"}', "INVALID_ARGUMENT"),
        ("models", b" " * (QUESTION_CAP_BYTES + 1), "INVALID_ARGUMENT"),
    ],
)
def test_what_is_wrong_is_said(op, payload, code):
    session, found = ask((op, payload, {}))
    (answer,) = session.of("publish")
    document = json.loads(answer.payload)
    assert (document["status"], document["error"]["code"]) == ("error", code)
    assert (found.answered, found.refused) == (0, 1)


@pytest.mark.parametrize("topic", ["edged/n/status", "edged/n", "in/x", "a/+", "$SYS/x", ""])
def test_an_answer_never_goes_where_it_would_be_taken_for_something_else(topic):
    session, found = ask(("models", b"", {"response_topic": topic}))
    assert session.of("publish") == []
    assert (found.refused, len(session.acked)) == (1, 1)


def test_what_is_not_allowed_retained_or_too_much_is_dropped():
    session, found = ask(("models", b"", {"retain": True}), ("reload", b"", {}))
    assert session.of("publish") == []
    assert found.dropped == 2
    many = 2 * RATE
    session, found = ask(*[("models", b"", {})] * many)
    # More than at once where this machine takes long: the allowance comes back meanwhile.
    assert RATE <= found.answered < many
    assert found.answered + found.dropped == len(session.acked) == many


def test_an_answer_larger_than_the_broker_takes_is_said_in_few_words():
    async def large(_):
        return "x" * 1000

    session, found = ask(("models", b"", {}), limit=600, calls={"models": large})
    (answer,) = session.of("publish")
    assert json.loads(answer.payload)["error"]["code"] == "INVALID_ARGUMENT"
    assert found.stats() == {"state": "connected", "answered": 0, "refused": 1, "dropped": 0}
