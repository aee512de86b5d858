"""One connection under TLS: bytes of the socket to the protocol above, and its bytes back.

Sans-I/O over ``ssl.MemoryBIO`` and not the loop's own TLS: there the handshakes of a listener can
be neither counted nor cut off, and its context cannot be exchanged while it listens. Decides when a
handshake has taken too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Any, cast

from edged.protocol.frames import Buffer
from edged.protocol.http_answer import encode_error
from edged.transports.tls import HANDSHAKES, TlsGate, certificate_name

log = logging.getLogger("edged.tls")

_READ_BYTES = 64 << 10
_PLAIN = encode_error(400, "this port speaks TLS: ask it by https://", keeps_alive=False)
"""To who speaks HTTP without TLS: every client shows it."""


class TlsPeer(asyncio.Protocol):
    """The protocol that the loop sees.

    Args:
        gate: what the handshake is held to.
        make: the protocol above, made once the client has proven who it is.
    """

    def __init__(self, gate: TlsGate, make: Callable[[], asyncio.Protocol]) -> None:
        self._gate = gate
        self._make = make
        self._transport: asyncio.Transport | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._upper: asyncio.Protocol | None = None
        self._above: TlsTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake; cut off who comes when too many are at it."""
        self._transport = cast(asyncio.Transport, transport)
        gate = self._gate
        if gate.context is None or len(gate.handshakes) >= HANDSHAKES:
            gate.refused += 1
            self._transport.abort()
            return
        gate.handshakes.add(self)
        self._tls = gate.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(gate.handshake_s, self._on_time)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol above."""
        self._transport = None
        self._handshake_ended()
        if self._upper is not None:
            self._upper.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Decrypt, or go on with the handshake."""
        if self._tls is None:
            return
        self._incoming.write(data)
        if self._upper is None and not self._shakes_hands(self._tls):
            return
        self.read()

    def eof_received(self) -> None:
        """The client is gone."""
        if self._upper is not None:
            self._upper.eof_received()

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._upper is not None:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._upper is not None:
            self._upper.resume_writing()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def read(self) -> None:
        """Give the protocol above what can be decrypted, unless it reads nothing now."""
        tls, above, upper = self._tls, self._above, self._upper
        while tls is not None and above is not None and upper is not None:
            if above.is_paused or self._transport is None or self._transport.is_closing():
                return
            try:
                data = tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                self.flush()  # the protocol's own answers, as to a change of keys
                return
            except ssl.SSLError as exc:
                # Also its orderly end: nobody reads an answer after it.
                log.debug("a connection ends: %s", exc.reason or exc)
                self.abort()
                return
            if not data:
                self._transport.close()
                return
            upper.data_received(data)

    def write(self, data: Buffer) -> None:
        """Encrypt and send."""
        if self._tls is None or self._transport is None or not len(data):
            return
        try:
            self._tls.write(data)
        except ssl.SSLError as exc:
            log.debug("a connection breaks: %s", exc.reason or exc)
            self.abort()
            return
        self.flush()

    def close(self) -> None:
        """Say that nothing follows, and end the connection when everything has left."""
        if self._tls is None or self._transport is None:
            return
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # the other end has not said so yet, and is not waited for
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        """Send what has been encrypted."""
        if self._transport is not None and (data := self._outgoing.read()):
            self._transport.write(data)

    def _shakes_hands(self, tls: ssl.SSLObject) -> bool:
        """Go on with the handshake; returns whether it is over and good."""
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except (ssl.SSLError, ssl.CertificateError) as exc:
            self._fail(exc)
            return False
        self.flush()
        self._handshake_ended()
        certificate = tls.getpeercert()
        transport = cast(asyncio.Transport, self._transport)
        log.debug("connected: the certificate of %r", certificate_name(certificate)[:256])
        self._above = TlsTransport(self, transport, tls)
        self._upper = self._make()
        self._upper.connection_made(self._above)
        return True

    def _fail(self, exc: ssl.SSLError | ssl.CertificateError) -> None:
        self._gate.failed += 1
        self._tls, transport = None, self._transport
        why = getattr(exc, "verify_message", "") or getattr(exc, "reason", "") or str(exc)
        log.warning("a client was not let in: %s", why)
        if transport is None:
            return
        if getattr(exc, "reason", "") == "HTTP_REQUEST":
            transport.writelines(_PLAIN)
        elif data := self._outgoing.read():
            transport.write(data)  # the alert says why
        transport.close()
        self._handshake_ended()

    def _on_time(self) -> None:
        self._gate.failed += 1
        log.warning("a client was not let in: no handshake within %g s", self._gate.handshake_s)
        self.abort()

    def _handshake_ended(self) -> None:
        self._gate.handshakes.discard(self)
        if self._timer is not None:
            self._timer.cancel()


class TlsTransport(asyncio.Transport):
    """What the protocol above writes to.

    Args:
        peer: encrypts.
        transport: of the socket.
        tls: of the connection.
    """

    def __init__(self, peer: TlsPeer, transport: asyncio.Transport, tls: ssl.SSLObject) -> None:
        super().__init__()
        self._peer = peer
        self._transport = transport
        self._tls = tls
        self.is_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's own TLS: ``peercert``, ``ssl_object``, ``cipher``, and the socket's."""
        if name == "peercert":
            return self._tls.getpeercert()
        if name == "ssl_object":
            return self._tls
        if name == "cipher":
            return self._tls.cipher()
        return self._transport.get_extra_info(name, default)

    def write(self, data: Buffer) -> None:
        """Encrypt and send."""
        self._peer.write(data)

    def writelines(self, list_of_data: Any) -> None:
        """Encrypt and send, one after another."""
        for data in list_of_data:
            self._peer.write(data)

    def close(self) -> None:
        """End the connection after what was written."""
        self._peer.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._peer.abort()

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        """Whether the protocol above is given what arrives."""
        return not self.is_paused

    def pause_reading(self) -> None:
        """Give it nothing; what arrives stays in the socket."""
        self.is_paused = True
        if self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Give it what has arrived and what will."""
        self.is_paused = False
        if not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()
        # Not at once: who calls is in the middle of something.
        asyncio.get_running_loop().call_soon(self._peer.read)

    def can_write_eof(self) -> bool:
        """TLS ends both directions at once."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Of the socket."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Encrypted bytes that have not left."""
        return self._transport.get_write_buffer_size()
