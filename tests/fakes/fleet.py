"""Whoever looks after many devices from afar: signs documents, sends them, and reads what is reported."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edged.generation.envelope import Envelope, seal
from edged.store.signing import Signer
from tests.fakes.broker import Device, Mosquitto

DESIRED, REPORTED = "edged/test/config/desired", "edged/test/config/reported"
GIVE_UP_S = 30.0


def message(
    version: int,
    document: str,
    against: int | str,
    *keys: Path,
    node: str = "test",
) -> bytes:
    """A message as ``edged desired sign`` makes it."""
    signers = [Signer.from_file(key) for key in keys]
    return seal(Envelope(version, node, against, document), signers)


class Fleet(Device):
    """Hears ``config/reported`` of the device "test".

    Args:
        broker: where.
        keys: what it signs with.
    """

    def __init__(self, broker: Mosquitto, keys: Sequence[Path] = ()) -> None:
        super().__init__(broker, REPORTED)
        self.keys = tuple(keys)
        self.reports: list[dict[str, Any]] = []

    def send(self, payload: bytes, *, retain: bool = True) -> None:
        """Publish a message as it is."""
        self.publish(DESIRED, payload, retain=retain)

    def want(
        self, version: int, document: str, against: int | str | None = None, **more: Any
    ) -> bytes:
        """Sign and send; against what was reported last, unless told otherwise."""
        against = self.last["digest"] if against is None else against
        payload = message(version, document, against, *self.keys)
        self.send(payload, **more)
        return payload

    @property
    def last(self) -> dict[str, Any]:
        """What was reported last."""
        return self.until(lambda report: True)

    def until(
        self, is_it: Callable[[dict[str, Any]], Any], give_up_s: float = GIVE_UP_S
    ) -> dict[str, Any]:
        """The newest report, as soon as it is like this."""
        give_up = time.monotonic() + give_up_s
        while True:
            self._drain()
            if self.reports and is_it(self.reports[-1]):
                return self.reports[-1]
            assert time.monotonic() < give_up, self.reports[-1:]
            time.sleep(0.01)

    def verdict(self, version: int, *states: str) -> dict[str, Any]:
        """The report that says so of a version."""
        return self.until(
            lambda report: (
                report["desired"] is not None
                and report["desired"]["version"] == version
                and report["desired"]["state"] in states
            )
        )

    def _drain(self) -> None:
        while True:
            try:
                heard = self.inbox.get_nowait()
            except queue.Empty:
                return
            self.reports.append(json.loads(heard.payload))
