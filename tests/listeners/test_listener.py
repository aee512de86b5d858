"""What one listener that cannot be had is to the house: a refused change, or a degradation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edged.config.listen import HttpConfig, ListenConfig
from edged.config.schema import Config
from edged.errors import ApplyError
from edged.listeners.listener import Listener
from edged.telemetry.health import Health


def at(path: str | None) -> Config:
    return Config(listen=ListenConfig(http=None if path is None else HttpConfig(path=path)))


class Server:
    """Stands for a server that is told where to listen."""

    def __init__(self) -> None:
        self.place: Any = None
        self.trouble: Exception | None = None
        self.told: list[str] = []

    def _say(self, word: str) -> None:
        self.told.append(word)
        if self.trouble is not None:
            raise self.trouble

    def prepare(self, config: Config) -> Any:
        self._say("prepare")
        return ("staged", config.listen.http)

    def refresh(self, config: Config) -> None:
        self._say("refresh")

    def abandon(self, staged: Any) -> None:
        self.told.append("abandon")

    async def commit(self, staged: Any, config: Config) -> None:
        self._say("commit")
        self.place = staged[1]


class Box:
    def __init__(self) -> None:
        self.server, self.health, self.lack = Server(), Health(), ""
        self.listener: Listener[Any] = Listener(
            "http", self.health, lambda: self.server, tls_key="tls", after=lambda _: self.lack
        )

    def follow(self, config: Config, *, is_strict: bool = True) -> None:
        staged = self.listener.prepare(config, is_strict=is_strict)
        asyncio.run(self.listener.commit(staged, config))

    @property
    def troubles(self) -> dict[str, str]:
        return self.health.degradations()


def test_it_is_made_when_it_is_first_wanted():
    box = Box()
    box.follow(at(None))
    asyncio.run(box.listener.refresh(at(None)))
    assert box.listener.server is None
    box.follow(at("/run/h"))
    assert box.listener.place is not None
    box.follow(at(None))
    assert box.listener.place is None
    assert box.server.told == ["prepare", "commit"] * 2


def test_only_another_wish_is_refused():
    box = Box()
    box.server.trouble = ApplyError("in use")
    box.follow(at("/run/h"), is_strict=False)
    assert box.troubles == {"http": "in use"}
    box.follow(at("/run/h"))
    with pytest.raises(ApplyError, match="in use"):
        box.listener.prepare(at("/run/other"), is_strict=True)
    box.server.trouble = None
    asyncio.run(box.listener.refresh(at("/run/h")))
    assert box.troubles == {}


def test_what_was_bound_and_cannot_begin():
    box = Box()
    box.follow(at(None))
    staged = box.listener.prepare(at("/run/h"), is_strict=True)
    box.server.trouble = OSError(24, "Too many open files")
    asyncio.run(box.listener.commit(staged, at("/run/h")))
    assert box.troubles == {"http": "listen.http: Too many open files"}
    assert box.server.told[-1] == "abandon"


def test_certificates_that_cannot_be_read_again():
    box = Box()
    box.follow(at("/run/h"))
    box.server.trouble = ApplyError("no PEM")
    asyncio.run(box.listener.refresh(at("/run/h")))
    assert box.troubles == {"tls": "no PEM; those from before are used"}
    box.server.trouble = None
    asyncio.run(box.listener.refresh(at("/run/h")))
    assert box.troubles == {}


def test_what_it_lacks_all_the_same():
    box = Box()
    box.lack = "a package"
    box.follow(at("/run/h"))
    assert box.troubles == {"http": "a package"}
    box.lack = ""
    box.follow(at("/run/h"))
    assert box.troubles == {}


def test_what_was_prepared_is_given_up():
    box = Box()
    box.listener.abandon(None)
    box.listener.abandon(box.listener.prepare(at("/run/h")))
    assert box.server.told == ["prepare", "abandon"]
