"""What the system still has of what was written, over sockets as they are."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from edged.transports.mqtt.link import unread_bytes
from tests.transports.conftest import until


def test_what_a_broker_has_not_read_is_known():
    async def main():
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=near
            )
            assert unread_bytes(transport) == 0
            transport.write(b"x" * (1 << 20))
            assert transport.get_write_buffer_size() < unread_bytes(transport)
            while unread_bytes(transport):
                far.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    far.recv(1 << 16)
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert unread_bytes(transport) == unread_bytes(None) == 0

    asyncio.run(asyncio.wait_for(main(), 20))


def test_what_tls_has_given_to_the_transport_below_is_not_read_either(tmp_path):
    pytest.importorskip("cryptography", reason="makes certificates")
    from tests.fakes.certificates import Authority

    size = 16 << 20  # more than the system keeps on both sides

    async def main():
        authority, got = Authority(tmp_path), 0
        go_on, is_over = asyncio.Event(), asyncio.Event()
        pair = authority.signs("broker")
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(pair.cert, pair.key)

        async def act(reader, writer):
            nonlocal got
            await go_on.wait()
            while data := await reader.read(1 << 16):
                got += len(data)
            writer.close()
            is_over.set()

        server = await asyncio.start_server(act, "127.0.0.1", 0, ssl=theirs)
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname(), ssl=authority.context()
        )
        transport.write(bytes(size))
        assert unread_bytes(transport) > size // 2
        go_on.set()
        await until(lambda: got == size)
        await until(lambda: unread_bytes(transport) == 0)
        transport.close()
        await is_over.wait()  # else their side is collected with its loop, which 3.10 warns of
        server.close()

    asyncio.run(asyncio.wait_for(main(), 60))
