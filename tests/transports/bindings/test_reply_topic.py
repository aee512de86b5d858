import pytest

from edged.errors import DeniedError, InvalidRequestError
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.binding import Binding
from edged.transports.bindings.binding_set import BindingSet
from edged.transports.bindings.reply_topic import checked_reply_topic
from tests.transports.bindings.test_bindings import binding

SET = BindingSet([Binding(binding(), "bindings[0]")], BaseTopics("edged/n"))


@pytest.mark.parametrize("topic", [None, "reply", "edged/nn"])
def test_taken(topic):
    assert checked_reply_topic(topic, SET) == topic


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        ("", InvalidRequestError),
        ("a/#", InvalidRequestError),
        ("in/hall", InvalidRequestError),
        ("edged/n", DeniedError),
        ("edged/n/status", DeniedError),
    ],
)
def test_refused(topic, error):
    with pytest.raises(error):
        checked_reply_topic(topic, SET)
