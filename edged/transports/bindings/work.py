"""One binding's work on one message: decode, submit, publish, and the ways that may fail.

Decides what a message ends as (result, dead letter, expired); when it is acknowledged is decided in
``bindings.py``. Everything runs on the event loop but the decoding of large payloads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from edged.config.binding import BindingConfig
from edged.errors import (
    BusyError,
    DeadlineExceededError,
    DeniedError,
    DrainingError,
    EdgedError,
    FieldError,
    InvalidRequestError,
    ModelNotReadyError,
    RuntimeFailureError,
    StaleError,
    TensorMismatchError,
    TooLargeError,
)
from edged.manifest import Manifest
from edged.messages import InferResponse, OrderedRequest
from edged.processing.codecs import Codec, RawCodec
from edged.protocol.broker_session import REFUSED, Message, Publication, Published
from edged.protocol.mqtt import (
    JSON,
    answer_properties,
    encode_dead_letter,
    encode_error,
    error_properties,
)
from edged.tensors import Array
from edged.topics import check_topic
from edged.transports.bindings.answers import Answer
from edged.transports.bindings.binding import Compiled, Route
from edged.transports.bindings.binding_set import BindingSet
from edged.transports.bindings.counters import BindingCounters
from edged.transports.bindings.forwarding import Forwarder
from edged.transports.bindings.outlet import Outlet
from edged.transports.bindings.reply_topic import checked_reply_topic
from edged.transports.bindings.suppression import Watch
from edged.transports.bindings.time_left import deadline_ns, has_expired, remaining_s

log = logging.getLogger("edged.mqtt")

OFF_LOOP_BYTES = 32 << 10
"""Larger JSON takes a millisecond and more to read, so that it is not read on the event loop."""
_FIRST_RETRY_NS, _LONGEST_RETRY_NS = 5 * 10**6, 10**9


class Job:
    """One binding at work on one message.

    Args:
        outlet: where results go and time comes from.
        route: the binding and its target topic.
        bindings: the set the message was routed by, for loops.
        message: the request.
        counters: the binding's.
        on_done: called once, when the message may be acknowledged as far as this binding goes.
    """

    def __init__(
        self,
        outlet: Outlet,
        route: Route,
        bindings: BindingSet,
        message: Message,
        *,
        counters: BindingCounters,
        on_done: Callable[[Job], None],
    ) -> None:
        self._outlet = outlet
        self._route, self._binding = route, route.binding
        self._config: BindingConfig = route.binding.config
        self._target = route.target
        self._key, self._part, self._joined = route.key, route.part, route.joined
        self._asker = route.asker(message.correlation)
        self._problem = route.problem
        self._watch = Watch(route.binding.suppression, route.about)
        self._bindings = bindings
        self._message = message
        self._counters = counters
        self._on_done = on_done
        self._compiled: Compiled | None = None
        self._reply_to: str | None = None
        self._pending, self._retry_ns = 0, _FIRST_RETRY_NS
        self._is_done = False
        self._deadline_ns = deadline_ns(message, self._config.timeout)

    def start(self) -> None:
        """Begin; every way out ends in ``on_done``, or in silence when the connection is lost."""
        self._counters.received += 1
        self._counters.in_flight += 1
        forwarder = self._outlet.forwarder
        if forwarder is not None and forwarder.answered(self._message, self._binding.name):
            self._counters.duplicates += 1
            self._finish()
            return
        self._guard(self._begin)

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step; a poisonous message never stops the others."""
        try:
            step()
        except StaleError:
            self._end_expired()
        except EdgedError as exc:
            self._fail(exc)
        except Exception:
            log.exception("binding %s: a message could not be handled", self._binding.name)
            self._fail(RuntimeFailureError("the message could not be handled; see the log"))

    def _begin(self) -> None:
        self._reply_to = checked_reply_topic(self._message.response_topic, self._bindings)
        if self._reply_to is None and self._target is None:
            raise InvalidRequestError(
                self._problem
                or "nowhere to answer to: no response topic was given and the binding has no `to`"
            )
        if self._reply_to is None and self._target is not None:
            check_topic(self._target, "to")
            if self._bindings.topics.owns(self._target):
                raise DeniedError("the levels of this topic make `to` one of our own topics")
        self._take_up()

    def _take_up(self) -> None:
        """Work on it, now or when its turn has come."""
        self._decode()

    def _decode(self) -> None:
        payload = self._bindings.admit(self._message, self._binding)
        manifest = self._outlet.door.manifest(self._binding.model, self._binding.release)
        if manifest is None:
            self._wait(ModelNotReadyError(f'no release of "{self._config.model}" is ready'))
            return
        self._compiled = compiled = self._fit(manifest)
        codec = self._codec_of(compiled)
        is_view = isinstance(codec, RawCodec) and codec.is_view
        if is_view or (len(payload) <= OFF_LOOP_BYTES and not codec.is_slow):
            self._submit(codec.decode(payload))
            return
        future = self._outlet.loop.run_in_executor(self._outlet.executor, codec.decode, payload)
        future.add_done_callback(lambda done: self._guard(lambda: self._decoded(done)))

    def _codec_of(self, compiled: Compiled) -> Codec:
        return compiled.codecs.choose(self._message.content_type)

    def _fit(self, manifest: Manifest) -> Compiled:
        try:
            return self._binding.compiled(manifest)
        except FieldError as exc:
            raise RuntimeFailureError(
                f"the binding does not fit release {manifest.release}: {exc.message}"
            ) from exc

    def _decoded(self, done: asyncio.Future[dict[str, Array]]) -> None:
        if not done.cancelled():
            inputs = done.result()
            # Swapped meanwhile: its columns and words may mean something else.
            self._decode() if self._is_other_release() else self._submit(inputs)

    def _submit(self, inputs: dict[str, Array]) -> None:
        if not self._is_wanted():
            return
        if time.monotonic_ns() >= self._deadline_ns:
            self._expire()
            return
        self._ask(inputs)

    def _ask(self, inputs: dict[str, Array]) -> None:
        binding = self._binding
        request = OrderedRequest(
            binding.model, inputs, binding.release, (), self._deadline_ns, binding.origin,
            self._asker,
        )  # fmt: skip
        self._outlet.door.submit(request, self._on_response)

    def _on_response(self, response: InferResponse, final: bool) -> None:
        if final and not self._is_done and self._is_wanted():
            self._guard(lambda: self._respond(response))

    def _respond(self, response: InferResponse) -> None:
        error = response.error
        if error is None:
            self._answer(response)
        elif isinstance(error, DeadlineExceededError):
            self._expire()
        elif isinstance(error, DrainingError):
            self.abandon()  # not acknowledged, so it is delivered again after the restart
        elif isinstance(error, BusyError):
            self._wait(error)
        elif isinstance(error, TensorMismatchError) and self._is_other_release():
            self._decode()  # the release was swapped between decoding and asking
        else:
            self._fail(error)

    def _is_other_release(self) -> bool:
        manifest = self._outlet.door.manifest(self._binding.model, self._binding.release)
        before = self._compiled
        return manifest is not None and before is not None and before.manifest is not manifest

    def _wait(self, error: BusyError) -> None:
        """Try again while the deadline allows: a full queue is no reason to lose a message.

        Who waits holds a place of the session. A queue drains by itself; a model that is not ready
        may stay so for hours, and its messages must not take the places of all others.
        """
        delay_ns = max(self._retry_ns, min(error.retry_after_ns, _LONGEST_RETRY_NS))
        is_hopeless = isinstance(error, ModelNotReadyError) and self._outlet.is_crowded
        if is_hopeless or time.monotonic_ns() + delay_ns >= self._deadline_ns:
            if self._message.expiry_s is not None and has_expired(self._message):
                self._expire()
            else:
                self._fail(error)
            return
        self._retry_ns = min(self._retry_ns * 2, _LONGEST_RETRY_NS)
        self._outlet.loop.call_later(delay_ns / 1e9, self._retry)

    def _retry(self) -> None:
        if self._is_wanted():
            self._guard(self._decode)

    def _answer(self, response: InferResponse) -> None:
        self._expire() if has_expired(self._message) else self._deliver(self._make(response))

    def _make(self, response: InferResponse) -> Publication:
        """The answer, ready to be sent; raises EdgedError where there can be none."""
        compiled = self._compiled
        if compiled is None or compiled.manifest.release != response.release:
            manifest = self._outlet.door.manifest(self._binding.model, response.release)
            if manifest is not None:
                compiled = self._fit(manifest)
        if compiled is None:
            raise RuntimeFailureError("the release that answered is gone")
        answer = self._encode(response, compiled)
        self._watch.rows = answer.rows
        if self._reply_to is None:
            self._binding.tell(self._outlet.profiles, self._route, compiled, self._bindings.topics)
        properties = answer_properties(response, is_dup=self._message.dup)
        return self._publication(answer.payload, properties, answer.content_type)

    def _deliver(self, publication: Publication) -> None:
        if self._reply_to is None and self._watch.leaves_out():
            self._delivered("suppressed")
            return
        if self._route.shown and self._reply_to is None:
            self._binding.show(self._outlet.profiles, self._route, self._compiled, self._watch)
        forwarder = self._forwarder()
        limit = (forwarder or self._outlet).max_packet_bytes
        if limit is not None and publication.size_bytes > limit:
            raise TooLargeError(
                f"the answer may take {publication.size_bytes} bytes; the broker takes {limit}"
            )
        if forwarder is not None:
            self._keep(forwarder, publication)
        elif publication.qos == 0:
            self._outlet.publish(publication, ignore)
            self._delivered()
        else:
            self._outlet.publish(publication, self._on_answer_published)

    def _forwarder(self) -> Forwarder | None:
        """For another broker, by way of the disk; replies go back to who brought the request."""
        return self._outlet.forwarder if self._reply_to is None else None

    def _pass_on(self, publication: Publication, on_passed: Callable[[], None]) -> None:
        """Send one of several answers, and hear when the next may come."""
        forwarder = self._forwarder()
        if forwarder is not None:
            forwarder.pass_on(publication, self._config, lambda _: on_passed())
        else:
            self._outlet.publish(publication, lambda _: on_passed())

    def _keep(self, forwarder: Forwarder, publication: Publication) -> None:
        forwarder.keep(publication, self._config, self._message, self._on_answer_kept)

    def _delivered(self, ends_as: str = "answered") -> None:
        """The answer is safe, or kept back by the binding's ``publish``."""
        setattr(self._counters, ends_as, getattr(self._counters, ends_as) + 1)
        self._finish()

    def _on_answer_kept(self, reason: str) -> None:
        if reason:
            self._fail(TooLargeError(reason))
        elif not self._is_done:  # else left for the next connection, and known again then
            self._delivered()

    def _encode(self, response: InferResponse, compiled: Compiled) -> Answer:
        return compiled.writer.write(response)

    def _publication(
        self, payload: bytes, properties: tuple[tuple[str, str], ...], content_type: str = JSON
    ) -> Publication:
        is_reply = self._reply_to is not None
        return Publication(
            (self._reply_to if is_reply else self._target) or "",
            payload,
            qos=self._config.qos if is_reply else self._config.sent_qos,
            retain=self._config.retain and not is_reply,
            content_type=content_type,
            correlation=self._message.correlation,
            expiry_s=remaining_s(self._message),
            properties=properties,
        )

    def _on_answer_published(self, event: Published) -> None:
        if event.reason_code >= REFUSED:
            self._fail(DeniedError(f"the broker refused the answer: {event.reason}"))
            return
        self._delivered()

    def _fail(self, error: EdgedError) -> None:
        """Tell the asker, if it can be told, and the operators."""
        if self._is_done or not self._is_wanted():
            return
        self._watch.take_back()
        message, binding = self._message, self._binding
        if isinstance(error, EdgedError) and error.__cause__ is not None:
            log.debug("binding %s: %s", binding.name, error, exc_info=error)
        properties = error_properties(binding.model, error, is_dup=message.dup)
        letter = Publication(
            self._bindings.topics.error(binding.name),
            encode_dead_letter(binding.name, error, message.topic, message.payload),
            content_type=JSON,
            properties=properties,
        )
        self._counters.dead_lettered += 1
        self._pending = 1
        limit = self._outlet.max_packet_bytes
        if self._reply_to is not None:
            reply = self._publication(encode_error(error), properties)
            if limit is None or reply.size_bytes <= limit:
                self._pending = 2
                self._outlet.publish(reply, self._on_letter_published)
        if limit is None or letter.size_bytes <= limit:
            self._outlet.publish(letter, self._on_letter_published)
        else:
            self._on_letter_published(Published(message.connection, 0, REFUSED, "too large"))

    def _on_letter_published(self, event: Published) -> None:
        if event.reason_code >= REFUSED:
            self._counters.undeliverable += 1
            log.warning(
                "binding %s: the broker refused an error report: %s",
                self._binding.name,
                event.reason,
            )
        self._pending -= 1
        if self._pending == 0:
            self._finish()

    def _expire(self) -> None:
        """Past its deadline: by its own expiry it just ends, by our timeout it is reported."""
        if self._message.expiry_s is None or not has_expired(self._message):
            self._fail(DeadlineExceededError("no answer within the binding's time"))
            return
        self._end_expired()

    def _end_expired(self) -> None:
        self._counters.expired += 1
        self._finish()

    def _is_wanted(self) -> bool:
        """Whether the broker still waits for this; else it will deliver the message again."""
        if self._outlet.is_current(self._message.connection):
            return True
        self.abandon()
        return False

    def abandon(self) -> None:
        """Leave it un-acknowledged: the broker delivers the message again."""
        if not self._is_done:
            self._is_done = True
            self._watch.take_back()
            self._counters.in_flight -= 1
            self._counters.abandoned += 1

    def _finish(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._counters.in_flight -= 1
            self._on_done(self)


def ignore(_: Published) -> None:
    """For publications whose arrival nothing hangs on."""
