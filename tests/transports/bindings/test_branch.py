"""A second user of the bindings' session: its publications, and the connection's coming and going."""

from __future__ import annotations

import asyncio
from typing import Any

from edged.outbox.outbox import Outbox
from edged.protocol.broker_session import Publication, SessionEvent
from edged.transports.bindings.branch import Branch
from edged.transports.bindings.forwarding import Forwarder
from tests.fakes.cut_disk import CutDisk
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import Bench, on_loop


@on_loop
async def test_it_publishes_over_the_one_connection_and_hears_of_it() -> None:
    branch, seen = Branch(), []
    heard: list[SessionEvent] = seen
    branch.start(asyncio.get_running_loop(), heard.append)
    bench = Bench(auto=False, connect=False, branch=branch)
    assert branch.stats() == {"state": "disconnected"}
    bench.session.connect()
    bench.session.puback_all()
    assert branch.stats() == {"state": "connected"}
    token = branch.publish(Publication("mine", b"1"))
    bench.session.puback(code=0x87)
    assert [type(one).__name__ for one in seen] == ["Connected", "Published"]
    assert (seen[1].token, seen[1].reason_code) == (token, 0x87)
    branch.publish(Publication("mine", b"2"))
    bench.session.disconnect("cut")
    bench.session.connect()
    bench.session.puback_all()
    assert [type(one).__name__ for one in seen[2:]] == ["Disconnected", "Connected"]
    assert seen[2].reason == "cut"
    await bench.bindings.drain(0)
    assert [type(one).__name__ for one in seen[4:]] == ["Disconnected"]
    await branch.stop(1)


@on_loop
async def test_an_outbox_behind_it_waits_for_the_broker_and_says_nothing_of_its_own() -> None:
    branch = Branch()
    loop = asyncio.get_running_loop()
    outbox = Outbox(CutDisk(), loop.call_soon, max_bytes=1 << 20)
    outbox.open()
    forwarder = Forwarder(
        branch, outbox, base=None, window=8, rate=0, on_change=lambda: None, is_branch=True
    )
    forwarder.start()
    bench = Bench(connect=False, branch=branch)
    kept: list[str] = []
    forwarder.put(Publication("mine", b"1"), "drop_oldest", kept.append, is_durable=True)
    outbox.step()
    await settle()
    assert kept == [""]
    assert forwarder.problem is None, "the session's owner says that the broker is away"
    bench.session.connect()
    for _ in range(3):
        outbox.step()
        await settle()
    assert [one.payload for one in bench.session.to("mine")] == [b"1"]
    assert len(bench.session.to("edged/n/status")) == 1
    stats: dict[str, Any] = forwarder.stats()
    assert stats["outbox"]["delivered"] == 1
    await forwarder.stop()
