"""What a daemon says of itself, and when it says it again."""

import pytest

from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.announcer import Announcer, model_state


def test_what_changed_is_said_and_all_of_it_again():
    said = []
    announcer = Announcer(BaseTopics("edged/n"), said.append)
    models = [{"name": "a", "ready": True}, {"name": "b", "ready": False}]
    announcer.announce({"version": "1"}, models)
    topics = {found.topic: found.payload for found in said}
    assert topics["edged/n/models/a/state"] == b"ready"
    assert topics["edged/n/models/b/state"] == b"failed"
    assert {"edged/n/info", "edged/n/models"} <= topics.keys()
    assert all(found.retain and found.qos == 1 for found in said)
    said.clear()
    announcer.announce({"version": "1"}, models)
    assert said == []
    announcer.announce({"version": "1"}, models[:1])
    assert [(found.topic, found.payload) for found in said if "state" in found.topic] == [
        ("edged/n/models/b/state", b"")
    ], "a retained topic is taken back by an empty message"
    said.clear()
    announcer.again()
    assert [found.topic for found in said] == [
        "edged/n/info",
        "edged/n/models",
        "edged/n/models/a/state",
    ]


@pytest.mark.parametrize(
    ("ready", "states", "word"),
    [
        (True, ["failed", "ready"], b"ready"),
        (False, ["failed", "loading"], b"loading"),
        (False, ["warming"], b"loading"),
        (False, ["new"], b"loading"),
        (False, ["failed"], b"failed"),
        (False, [], b"failed"),
    ],
)
def test_states_are_plain_words(ready, states, word):
    releases = [{"state": state} for state in states]
    assert model_state({"name": "m", "ready": ready, "releases": releases}) == word
