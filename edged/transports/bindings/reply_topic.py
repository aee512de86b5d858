"""Where a request wants its answer (MQTT 5), and whether that may be."""

from __future__ import annotations

from edged.errors import DeniedError, FieldError, InvalidRequestError
from edged.topics import check_topic
from edged.transports.bindings.binding_set import BindingSet


def checked_reply_topic(topic: str | None, bindings: BindingSet) -> str | None:
    """The response topic of a request, None where it has none.

    Raises:
        InvalidRequestError: no topic to publish to, or one that a binding reads.
        DeniedError: one of our own.
    """
    if topic is None:
        return None
    try:
        check_topic(topic, "response topic")
    except FieldError as exc:
        raise InvalidRequestError(exc.message) from exc
    if bindings.topics.holds(topic):
        raise DeniedError("the response topic is one of our own topics")
    if bindings.is_input(topic):
        raise InvalidRequestError(
            "the response topic is read by a binding: the answer would come back as a request"
        )
    return topic
