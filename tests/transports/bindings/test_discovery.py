"""When Home Assistant is told, over a clock that stands still; then over a binding."""

import json

import pytest

from edged.config.discovery import DiscoveryConfig
from edged.errors import FieldError
from edged.protocol.mqtt import BaseTopics
from edged.specs import Duration
from edged.transports.bindings.discovery import (
    MOST_DEVICES,
    Discovery,
    birth_topic,
    device_message,
    device_topic,
    object_id,
)
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop

S = 10**9


class Later:
    """Timers that run when they are told to."""

    def __init__(self):
        self.waiting = []

    def __call__(self, delay_s, act):
        self.waiting.append((delay_s, act))
        return self

    def cancel(self):
        self.waiting.clear()

    def run(self):
        delay_s, act = self.waiting.pop(0)
        act()
        return delay_s


class Rig:
    def __init__(self):
        self.sent, self.later = [], Later()
        self.discovery = Discovery(
            lambda one: self.sent.append(one.topic), self.later, lambda low, high: (low + high) / 2
        )
        self.discovery.want({"ha": 9.0})

    def tell(self, topic, payload=b"{}", source=None):
        self.discovery.tell(topic, source if source is not None else payload, lambda: payload)


def test_a_device_is_told_once_and_when_it_changes():
    rig = Rig()
    for payload in (b"1", b"1", b"2", b"2", b"1"):
        rig.tell("a", payload)
    assert rig.sent == ["a", "a", "a"]
    rig.tell("a", b"1", source="another release that says the same")
    assert rig.sent == ["a"] * 3


def test_a_birth_has_all_told_again_after_a_random_delay_and_a_few_at_a_time():
    rig = Rig()
    for number in range(45):
        rig.tell(str(number))
    rig.sent.clear()
    assert not rig.discovery.hears("other/status", b"online")
    assert rig.discovery.hears("ha/status", b"offline")
    assert rig.later.waiting == []
    for _ in range(3):
        assert rig.discovery.hears("ha/status", b"online")
    assert len(rig.later.waiting) == 1, "births in a row are one"
    assert rig.later.run() == 5.0
    assert len(rig.sent) == 20
    rig.later.run(), rig.later.run()
    assert rig.sent == [str(number) for number in range(45)]
    assert rig.later.waiting == []


def test_a_new_connection_has_all_told_again():
    rig = Rig()
    rig.discovery.connected()
    assert rig.later.waiting == []
    rig.tell("a")
    rig.discovery.connected()
    rig.discovery.connected()
    assert len(rig.later.waiting) == 1
    rig.later.run()
    assert rig.sent == ["a", "a"]


def test_memory_is_bounded():
    rig = Rig()
    for number in range(MOST_DEVICES + 1):
        rig.tell(str(number))
    rig.sent.clear()
    rig.tell("1")
    assert rig.sent == []
    rig.tell("0")
    assert rig.sent == ["0"]


def test_names_become_levels_and_stay_apart():
    assert object_id("press-4_b") == "press-4_b"
    names = ["a b", "a_b", "a.b", "ü", "\ud800", "x" * 65, "x" * 66, "", "a/b#+"]
    ids = [object_id(name) for name in names]
    assert len(set(ids)) == len(names)
    assert all(set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for one in ids)


def test_the_message():
    entities = {"label": {"platform": "sensor", "value_template": "{{ value_json.label }}"}}
    found = json.loads(device_message("vib", "m", "press 4", "out/x", entities, BaseTopics("e/n")))
    key = object_id("press 4")
    assert found["device"] == {"identifiers": [f"edged_{key}"], "name": "press 4", "model": "m"}
    assert found["origin"]["name"] == "edged"
    assert (found["availability_topic"], found["state_topic"]) == ("e/n/status", "out/x")
    assert found["components"]["label"]["unique_id"] == f"edged_vib_{key}_label"
    assert device_topic("ha", "vib", "press 4") == f"ha/device/edged_vib_{key}/config"
    assert birth_topic("ha") == "ha/status"


def telling(**words):
    return binding(discovery=DiscoveryConfig(device="{site}", delay=Duration(0)), **words)


@on_loop
async def test_over_a_binding():
    bench = Bench(telling())
    assert ("homeassistant/status", 0) in [
        one for kind, what in bench.session.log if kind == "subscribe" for one in what
    ]
    for _ in range(2):
        bench.session.receive("in/hall", GOOD)
    topic = "homeassistant/device/edged_vib_hall/config"
    (told,) = bench.session.to(topic)
    assert told.retain
    found = json.loads(told.payload)
    assert found["state_topic"] == "out/hall"
    assert found["components"]["sum"]["value_template"] == "{{ value_json['sum'] }}"
    bench.session.receive("homeassistant/status", b"online", qos=0)
    await settle()
    assert len(bench.session.to(topic)) == 2
    assert bench.bindings.stats()["unmatched"] == 0
    bench.session.receive("in/yard", GOOD, response_topic="reply")
    assert not bench.session.to("homeassistant/device/edged_vib_yard/config"), "it asked itself"


def test_what_a_binding_reads_is_not_told_to():
    wide = binding("wide", from_="homeassistant/#", to="x")
    with pytest.raises(FieldError, match="would read what Home Assistant is told"):
        asyncio_prepare(telling(), wide)


def asyncio_prepare(*configs):
    from edged.transports.bindings.binding_set import prepare_bindings
    from tests.fakes.door import SUM

    return prepare_bindings(list(configs), lambda *_: SUM, BaseTopics("edged/n"))
