import os
import stat

import pytest

from edged.transports.bindings.subscriptions import (
    NOTHING,
    Remembered,
    SubscriptionMemory,
    Subscriptions,
    forget_sessions,
    sessions_known,
    sessions_left,
)
from edged.transports.mqtt.connection import SessionOptions


def test_a_file_remembers_over_processes(tmp_path):
    path = tmp_path / "subscriptions.json"
    first = Subscriptions(SubscriptionMemory.in_file(path))
    assert first.want({"a": 1, "b": 0}) == ([("a", 1), ("b", 0)], [])
    second = Subscriptions(SubscriptionMemory.in_file(path))
    assert second.want({"b": 1, "c": 1}) == ([("b", 1), ("c", 1)], ["a"])
    third = Subscriptions(SubscriptionMemory.in_file(path))
    assert third.want({"c": 1})[1] == ["a", "b"], "until the broker has said so"
    third.gave_back(["a", "b"])
    assert Subscriptions(SubscriptionMemory.in_file(path)).want({})[1] == ["c"]


def test_a_filter_wanted_again_in_the_meantime_stays_remembered(tmp_path):
    path = tmp_path / "subscriptions.json"
    subscriptions = Subscriptions(SubscriptionMemory.in_file(path))
    subscriptions.want({"a": 1})
    subscriptions.want({})
    subscriptions.want({"a": 1})
    subscriptions.gave_back(["a"])
    assert Subscriptions(SubscriptionMemory.in_file(path)).want({})[1] == ["a"]


@pytest.mark.parametrize("text", [b"", b"{", b"7", b"\xff", b"[" * 5000, b"null"])
def test_an_unreadable_file_reads_as_empty(tmp_path, text):
    path = tmp_path / "subscriptions.json"
    path.write_bytes(text)
    assert Subscriptions(SubscriptionMemory.in_file(path)).want({"a": 1}) == ([("a", 1)], [])


def test_a_directory_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    memory = SubscriptionMemory.in_file(tmp_path / "missing" / "file")
    assert Subscriptions(memory).want({"a": 1}) == ([("a", 1)], [])
    assert memory.load() == NOTHING


def test_what_is_noted_survives_a_power_cut_before_the_broker_is_told(tmp_path, monkeypatch):
    """The file and, after it has its name, the folder are on disk: or a filter would be forgotten."""
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)) or real(fd)
    )
    path = tmp_path / "subscriptions.json"
    Subscriptions(SubscriptionMemory.in_file(path)).want({"a": 1})
    assert synced == [False, True]


def test_sessions_by_name_have_memories_of_their_own(tmp_path):
    main, bulk = (SubscriptionMemory.of_session(tmp_path, name) for name in (None, "bulk"))
    assert sessions_left(tmp_path) == []
    main.save(Remembered({"a": ("one", "two")}, {}))
    bulk.save(Remembered({"b": ()}, {"c": ("one",)}))
    assert main.load() == Remembered({"a": ("one", "two")}, {})
    assert bulk.load() == Remembered({"b": ()}, {"c": ("one",)})
    assert sessions_left(tmp_path) == ["bulk"]
    assert sessions_known(tmp_path) == [(None, main.load()), ("bulk", bulk.load())]
    bulk.save(Remembered({}, {"c": ("one",)}))
    assert sessions_left(tmp_path) == [], "nothing to give back"
    options = SessionOptions("c" * 64, "edged/n")
    beside = options.named("bulk")
    assert (len(beside.client_id), beside.client_id[-5:], beside.has_will) == (64, "-bulk", False)
    forget_sessions(tmp_path)
    assert main.load() == Remembered({"a": ("one", "two")}, {}), "to be given back yet"
    assert bulk.load() == NOTHING


def test_who_read_a_filter_is_known_until_it_is_read_again(tmp_path):
    """The broker may send what it has queued long after it confirmed that it forgot the filter."""
    memory = SubscriptionMemory.in_file(tmp_path / "filters.json")
    first = Subscriptions(memory)
    first.want({"a": 1, "b": 1}, {"a": ["one", "two"], "b": ["one"]})
    first.want({"b": 1}, {"b": ["two"]})
    assert memory.load() == Remembered({"a": ("one", "two"), "b": ("two",)}, {})
    first.gave_back(["a"])
    assert memory.load() == Remembered({"b": ("two",)}, {"a": ("one", "two")})
    assert Subscriptions(memory).want({"b": 1})[1] == [], "it was given back"
    second = Subscriptions(memory)
    second.want({"a": 0}, {"a": ["three"]})
    second.gave_back(["b"])
    assert memory.load() == Remembered({"a": ("three",)}, {})


def test_a_list_of_an_earlier_version_has_no_names(tmp_path):
    path = tmp_path / "filters.json"
    path.write_text('["a", 7, "b"]')
    assert SubscriptionMemory.in_file(path).load() == Remembered({"a": (), "b": ()}, {})
    path.write_text('{"a": ["one", 7], "b": 7, "c": {"past": ["two"]}, "d": {"past": 1}}')
    found = SubscriptionMemory.in_file(path).load()
    assert found == Remembered({"a": ("one",), "b": ()}, {"c": ("two",), "d": ()})


def test_of_hundreds_that_leave_at_once_all_are_known(tmp_path):
    memory = SubscriptionMemory.in_file(tmp_path / "filters.json")
    names = {f"plant/{number:0200}/in": (f"b{number}",) for number in range(1000)}
    before = Subscriptions(memory)
    before.want(dict.fromkeys(names, 1), names)
    before.want({}, {})
    before.gave_back(names)
    assert memory.load() == Remembered({}, names)
    before.want(dict.fromkeys((f"o{text}" for text in names), 1))
    again = memory.load()
    assert (len(again.held), again.past) == (1000, names)
