"""The activation log and the crash rules, as rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.store.activation import ATTEMPTS_CAP, History, Record, Verdict, encode, judge, read_log

A, B, C = "a" * 64, "b" * 64, "c" * 64
WHOLE = {A: True, B: True, C: True}


def record(event: str, digest: str, **more) -> Record:
    return Record(event=event, model="gate", digest=digest, **more)


def log_of(*records: Record) -> bytes:
    return b"".join(map(encode, records))


class TestLog:
    def test_last_word_counts(self):
        history = read_log(log_of(record("try", A), record("good", A), record("try", B)))
        assert history.last["gate"] == record("try", B)
        assert history.damaged == 0

    def test_set_aside_until_tried_again(self):
        bad = record("bad", B, attempts=3)
        history = read_log(log_of(record("try", B), bad))
        assert (dict(history.last), dict(history.bad)) == ({}, {B: bad})
        assert not read_log(log_of(bad, record("try", B))).bad

    @pytest.mark.parametrize("cut", range(1, 30))
    def test_torn_tail(self, cut: int):
        data = log_of(record("good", A), record("try", B))
        history = read_log(data[:-cut])
        assert history.last["gate"] == record("good", A)
        assert history.damaged == 1

    def test_damage_in_the_middle(self):
        data = bytearray(log_of(record("good", A), record("good", B), record("try", C)))
        data[len(log_of(record("good", A))) + 40] ^= 1
        history = read_log(bytes(data))
        assert history.last["gate"] == record("try", C)
        assert history.damaged == 1

    def test_a_log_written_from_its_history_says_the_same(self):
        history = read_log(log_of(record("bad", C, attempts=3), record("try", A, current=B)))
        assert read_log(log_of(*history.records())) == history

    @given(st.binary(max_size=300), st.integers(0, 300))
    def test_noise(self, noise: bytes, at: int):
        read_log(noise)
        data = log_of(record("good", A), record("try", B))
        assert isinstance(read_log(data[:at] + noise + data[at:]), History)


class TestJudge:
    @pytest.mark.parametrize(
        ("current", "previous", "last", "intact", "verdict"),
        [
            pytest.param(None, None, None, {}, Verdict(None, None), id="nothing"),
            pytest.param(A, None, None, WHOLE, Verdict(A, None), id="no log is no doubt"),
            pytest.param(
                B, A, record("good", B), WHOLE, Verdict(B, A, record("good", B)), id="good"
            ),
            pytest.param(
                B,
                A,
                record("try", B, current=A),
                WHOLE,
                Verdict(B, A, record("try", B, current=A, attempts=1)),
                id="first start with it",
            ),
            pytest.param(
                B,
                B,
                record("try", C, current=B, previous=A),
                WHOLE,
                Verdict(B, A, pending=record("try", C, current=B, previous=A)),
                id="cut between the two links: both go back",
            ),
            pytest.param(
                B,
                A,
                record("try", C, current=B, previous=A),
                WHOLE,
                Verdict(B, A, pending=record("try", C, current=B, previous=A)),
                id="cut before the first link",
            ),
        ],
    )
    def test_rows(self, current, previous, last, intact, verdict):
        assert judge(current, previous, last, intact) == verdict

    def test_third_start_without_proof_goes_back(self):
        last = record("try", B, current=A, attempts=ATTEMPTS_CAP - 1)
        verdict = judge(B, A, last, WHOLE)
        assert (verdict.current, verdict.previous) == (A, None)
        assert verdict.record.event == "bad"
        assert verdict.pending.attempts == ATTEMPTS_CAP
        assert "3 starts" in verdict.reason
        # Cut while going back: judged again, the verdict is the same.
        assert judge(B, A, verdict.pending, WHOLE).current == A

    @pytest.mark.parametrize("last", [None, record("good", B)])
    def test_damaged_current_goes_back(self, last):
        verdict = judge(B, A, last, {A: True, B: False})
        assert (verdict.current, verdict.previous) == (A, None)
        assert "damaged" in verdict.reason

    def test_nothing_valid_is_an_empty_slot(self):
        verdict = judge(B, A, None, {A: False, B: False})
        assert (verdict.current, verdict.previous) == (None, None)
