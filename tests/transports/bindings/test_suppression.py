"""The policies as tables; then one binding over fakes, where acknowledgement and memory meet."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.publish import PublishConfig
from edged.errors import RunError
from edged.specs import Duration
from edged.transports.bindings.suppression import MOST_NUMBERS, Suppression
from tests.fakes.session import settle
from tests.transports.bindings.test_bindings import GOOD, Bench, binding, on_loop

S = 10**9


def ranked(label, score):
    return {"label": label, "score": score, "top": [{"label": label, "score": score}]}


def policy(**words):
    return Suppression(PublishConfig(**words))


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        # (seconds, row, whether it leaves)
        (
            {"when": "on_change"},
            [
                (0, ranked("a", 0.9), True),
                (1, ranked("a", 0.5), False),
                (2, ranked("b", 0.5), True),
                (3, ranked(None, None), True),
                (4, ranked(None, None), False),
            ],
        ),
        ({"when": "on_change"}, [(0, {"y": 1.0}, True), (1, {"y": 1.0}, False), (2, {"y": 1.5}, True)]),
        (
            {"when": "on_change", "field": "y.1"},
            [(0, {"y": [1, 2]}, True), (1, {"y": [5, 2]}, False), (2, {"y": [5]}, True)],
        ),
        (
            {"when": "on_change", "silence": Duration(10 * S)},
            [(0, {"y": 1}, True), (9, {"y": 1}, False), (10, {"y": 1}, True), (11, {"y": 1}, False)],
        ),
        (
            {"when": "dead_band", "band": 0.5},
            [
                (0, {"y": 1.0}, True),
                (1, {"y": 1.5}, False),
                (2, {"y": 1.51}, True),
                (3, {"y": 1.1}, False),
                (4, {"y": None}, True),
                (5, {"y": None}, False),
                (6, {"y": [1.0, 2.0]}, True),
                (7, {"y": [1.4, 1.6]}, False),
                (8, {"y": [1.0, 2.6]}, True),
                (9, {"z": [1.0, 2.6]}, True),
            ],
        ),
        (
            {"when": "dead_band", "band": 0.1},
            [
                (0, ranked("a", 0.9), True),
                (1, ranked("a", 0.85), False),
                (2, ranked("b", 0.85), True),
                (3, ranked("b", 0.6), True),
            ],
        ),
        (
            {"when": "every", "every": Duration(10 * S)},
            [(0, {"y": 1}, True), (9.9, {"y": 2}, False), (10, {"y": 1}, True), (19, {"y": 1}, False)],
        ),
        (
            {"when": "above", "threshold": 0.8},
            [
                (0, ranked("a", 0.7), False),
                (1, ranked("a", 0.8), True),
                (2, ranked("a", 0.9), True),
                (3, ranked(None, None), False),
                (4, {"y": [[0.1], [0.9]]}, True),
                (5, {"y": True}, False),
            ],
        ),
        (
            {"when": "above", "threshold": 0.0, "silence": Duration(10 * S)},
            [(0, {"y": -1}, True), (9, {"y": -1}, False), (9, {"y": 1}, True), (18, {"y": -1}, False), (19, {"y": -1}, True)],
        ),
    ],
)  # fmt: skip
def test_what_leaves(words, steps):
    suppression = policy(**words)
    got = [suppression.lets_pass("k", [row], int(at * S)) for at, row, _ in steps]
    assert got == [leaves for _, _, leaves in steps]
    other = [suppression.lets_pass("other", [row], int(at * S)) for at, row, _ in steps[:1]]
    assert other == [steps[0][2]], "keys are told apart"


def test_more_or_fewer_rows_are_a_change():
    suppression = policy(when="dead_band", band=9)
    assert suppression.lets_pass("k", [{"y": 1}], 0)
    assert suppression.lets_pass("k", [{"y": 1}, {"y": 1}], 0)
    assert not suppression.lets_pass("k", [{"y": 1}, {"y": 2}], 0)


def test_the_longest_unused_key_is_forgotten():
    suppression = policy(when="on_change", max_keys=2)
    for key in ("a", "b"):
        assert suppression.lets_pass(key, [{}], 0)
    assert not suppression.lets_pass("a", [{}], 0)
    assert suppression.lets_pass("c", [{}], 0)
    assert len(suppression) == 2
    assert not suppression.lets_pass("a", [{}], 0)
    assert suppression.lets_pass("b", [{}], 0)


def test_an_answer_too_large_for_a_dead_band_always_leaves():
    suppression = policy(when="dead_band", band=9)
    row = {"y": [0] * (MOST_NUMBERS + 1)}
    assert [suppression.lets_pass("k", [row], 0) for _ in range(2)] == [True, True]
    assert len(suppression) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2])), max_size=40))
def test_on_change_is_what_a_reader_of_all_would_see_change(answers):
    suppression, seen = policy(when="on_change"), {}
    for key, value in answers:
        if suppression.lets_pass(key, [{"y": value}], 0):
            assert seen.get(key) != value
            seen[key] = value
        assert seen[key] == value, "who hears only what left knows the state"


def changing(**words):
    return binding(publish=PublishConfig(when="on_change", **words))


@on_loop
async def test_a_request_whose_answer_is_left_out_is_acknowledged_and_counted():
    bench = Bench(changing())
    mids = [bench.session.receive("in/hall", GOOD).mid for _ in range(3)]
    other = bench.session.receive("in/yard", GOOD).mid
    await settle()
    assert len(bench.session.to("out/hall")) == len(bench.session.to("out/yard")) == 1
    assert bench.session.acked == [*mids, other]
    found = bench.counters()
    assert (found["answered"], found["suppressed"], found["in_flight"]) == (2, 2, 0)


@on_loop
async def test_who_asks_is_answered_whatever_the_policy_says():
    bench = Bench(changing())
    for _ in range(2):
        bench.session.receive("in/hall", GOOD, response_topic="reply", correlation=b"c")
    assert len(bench.session.to("reply")) == 2
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 1, "a reply is nothing to measure by"


@on_loop
async def test_an_answer_that_was_lost_with_its_connection_does_not_silence_the_next():
    bench = Bench(changing(), auto=False)
    first = bench.session.receive("in/hall", GOOD)
    second = bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 1
    assert bench.session.acked == [], "nothing is safe yet"
    bench.session.disconnect()
    bench.session.connect(session_present=True)
    bench.session.puback_all()
    before = len(bench.session.to("out/hall"))
    for old in (first, second):
        bench.session.receive("in/hall", old.payload, dup=True)
    assert len(bench.session.to("out/hall")) == before + 1
    bench.session.puback_all()
    assert len(bench.session.acked) == 2


@on_loop
async def test_an_answer_that_was_refused_does_not_silence_the_next():
    bench = Bench(changing(), auto=False)
    bench.session.receive("in/hall", GOOD)
    bench.session.puback(code=0x87)
    bench.session.puback_all()
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 2


@on_loop
async def test_errors_are_never_left_out():
    bench = Bench(changing())
    for _ in range(2):
        bench.door.errors.append(RunError("broken"))
        bench.session.receive("in/hall", GOOD)
    await settle()
    assert len(bench.letters()) == 2


@on_loop
async def test_a_reload_goes_on_with_what_is_remembered_where_it_means_the_same():
    bench = Bench(changing(), binding("other", from_="x", to="y"))
    bench.session.receive("in/hall", GOOD)
    bench.bindings.swap(bench.bindings.prepare([changing()]))
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 1
    bench.bindings.swap(bench.bindings.prepare([changing(silence=Duration(S))]))
    bench.session.receive("in/hall", GOOD)
    assert len(bench.session.to("out/hall")) == 2


@on_loop
async def test_a_key_of_named_levels():
    wide = binding(
        from_="in/{site}/{n}",
        to="out/{site}",
        publish=PublishConfig(when="on_change", key="{site}"),
    )
    bench = Bench(wide)
    for topic in ("in/hall/1", "in/hall/2", "in/yard/1"):
        bench.session.receive(topic, GOOD)
    assert len(bench.session.to("out/hall")) == len(bench.session.to("out/yard")) == 1
    assert json.loads(bench.session.to("out/hall")[0].payload)["sum"] == 3.0
