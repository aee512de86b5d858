"""The broker's side in words."""

import pytest

from edged.commands.mqtt_report import about_broker, is_well, render_mqtt
from edged.errors import InvalidRequestError

BASE = {
    "state": "connected", "protocol": "5", "session": "kept", "broker": "b:1883", "last_error": None,
    "connections": 2, "heard_s": 1.25, "in_flight": 3, "waiting": 4, "oldest_unacked_s": 1.5,
    "problem": None, "stepped_back": False, "times_back": 7, "unmatched": 0, "retained": 1,
    "dropped": 2, "acknowledged": 9, "published": 10, "unsent": 5, "results": None,
    "bindings": {"vib": {"received": 12, "answered": 11, "dead_lettered": 1, "in_flight": 0}},
}  # fmt: skip


def test_all_that_an_operator_asks_for():
    lines = render_mqtt(BASE).splitlines()
    assert lines[:4] == [
        "broker b:1883: connected, MQTT 5, kept session",
        "connections so far: 2, heard 1.2 s ago",
        "in flight 3, waiting 4, oldest un-acknowledged 1.5 s",
        "unmatched 0, retained 1, dropped 2, acknowledged 9, published 10, unsent 5, times back 7",
    ]
    assert lines[-1].split()[:4] == ["vib", "12", "11", "1"]
    named = render_mqtt({**BASE, "brokers": {"plant": BASE}}).splitlines()
    at = named.index("plant:")
    assert named[at + 1] == "  broker b:1883: connected, MQTT 5, kept session"
    suspicious = render_mqtt({**BASE, "suspicion": "another client"}).splitlines()
    assert suspicious[2] == "SUSPICION: another client"
    assert render_mqtt(None) == "no broker is configured"


def test_the_places_of_the_connection():
    assert "in flight 3 of 5 places, waiting 4" in render_mqtt({**BASE, "places": 5})


def test_what_is_wrong():
    outbox = {"bytes": 50, "max_bytes": 100, "entries": 3, "oldest_s": 61.0, "waiting": 2}
    results = {"state": "connecting", "broker": "far:8883", "on_way": 1, "outbox": outbox,
               "suspicion": "another client"}  # fmt: skip
    text = render_mqtt(
        {
            **BASE, "state": "connecting", "protocol": None, "heard_s": None,
            "oldest_unacked_s": None, "last_error": "refused", "problem": "refused",
            "stepped_back": True, "results": results, "bindings": {},
        }
    )  # fmt: skip
    assert "broker b:1883: connecting\n" in text
    assert "last error: refused" in text
    assert "stepped back" in text
    assert "results to far:8883: connecting, 1 on their way" in text
    assert "SUSPICION: another client" in text
    assert "outbox: 3 results, 50 % full, oldest 61 s, waiting for room 2" in text
    assert text.endswith("PROBLEM: refused")


def test_one_broker_of_several():
    """Its own messages first; and the ways that begin or end at it, also where it has no own."""
    names = ("plant", "plant to cloud", "mqtt to cloud by disk")
    ways = {name: {**BASE, "broker": f"{name}:1"} for name in names}
    whole = {**BASE, "brokers": ways}
    main, plant, cloud = (about_broker(whole, name) for name in ("mqtt", "plant", "cloud"))
    assert (main["broker"], list(main["brokers"])) == ("b:1883", ["mqtt to cloud by disk"])
    assert (plant["broker"], list(plant["brokers"])) == ("plant:1", ["plant to cloud"])
    assert list(cloud) == ["brokers"]
    assert list(cloud["brokers"]) == ["plant to cloud", "mqtt to cloud by disk"]
    lines = render_mqtt(cloud).splitlines()
    assert lines[:2] == [
        "plant to cloud:",
        "  broker plant to cloud:1: connected, MQTT 5, kept session",
    ]
    with pytest.raises(InvalidRequestError, match=r'"plan".*did you mean.*cloud, mqtt, plant'):
        about_broker(whole, "plan")
    ways["plant to cloud"]["problem"] = "gone"
    assert [is_well(about_broker(whole, name)) for name in ("mqtt", "plant", "cloud")] == [
        True, False, False,
    ]  # fmt: skip
    assert not is_well(whole)
