"""The real h2spec against our connection, where it is installed; its rules are in test_http2.py."""

from __future__ import annotations

import asyncio
import re
import shutil

import pytest

from tests.fakes.http2_echo import Echo

H2SPEC = shutil.which("h2spec")


@pytest.mark.slow
@pytest.mark.skipif(H2SPEC is None, reason="h2spec is not installed (summerwind/h2spec)")
def test_every_case_holds() -> None:
    async def ask() -> str:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            words = ["-h", "127.0.0.1", "-p", str(port), "--timeout", "10"]
            assert H2SPEC is not None
            made = await asyncio.create_subprocess_exec(
                H2SPEC, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            said, _ = await made.communicate()
        return said.decode(errors="replace")

    said = asyncio.run(ask())
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", said)
    assert found is not None, said
    assert int(found[1]) >= 146
    assert found[4] == "0", said[said.find("Failures:") :]
