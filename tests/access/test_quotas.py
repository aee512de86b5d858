"""Bounds of one client, with the time passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.access.quotas import Account, Bucket, Quota, build_quota
from edged.config.access import QuotaConfig
from edged.specs import Size

SECOND = 1_000_000_000


def test_a_bucket_gives_its_burst_and_then_its_rate():
    bucket = Bucket(10, 3, 0)
    assert [bucket.take(0) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(0) == SECOND // 10
    assert bucket.take(SECOND // 10 - 1) == 1
    assert bucket.take(SECOND // 10) == 0
    assert bucket.take(SECOND // 10) == SECOND // 10
    assert [bucket.take(100 * SECOND) for _ in range(4)] == [0, 0, 0, SECOND // 10]


def test_what_was_given_back_can_be_taken_again():
    bucket = Bucket(1, 1, 0)
    assert bucket.take(0) == 0
    bucket.give_back()
    assert bucket.take(0) == 0
    assert bucket.take(0) == SECOND


@given(
    rate=st.integers(1, 10**6),
    burst=st.integers(1, 1000),
    steps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=50),
)
def test_no_order_of_times_gets_more_than_burst_and_rate(rate: int, burst: int, steps: list[int]):
    bucket, now, taken = Bucket(rate, burst, 0), 0, 0
    for step in steps:
        now += step
        for _ in range(5):
            wait = bucket.take(now)
            taken += wait == 0
            assert 0 <= wait <= SECOND // rate
    assert taken <= burst + now // (SECOND // rate)


def test_bytes_in_flight():
    account = Account()
    assert account.takes(1 << 40) == 0
    account.follow(Quota("q", in_flight=100), 0)
    account.in_flight = 60
    assert account.takes(40) == 0
    assert account.takes(41) > 0
    account.in_flight = 0
    assert account.takes(101) > 0


def test_other_bounds_keep_what_was_taken():
    account = Account()
    account.follow(Quota("q", rate=1, burst=1), 0)
    assert account.bucket is not None
    assert account.bucket.take(0) == 0
    account.follow(Quota("q", rate=1, burst=1, connections=7), 0)
    assert account.bucket.take(0) > 0, "a reload that changes something else fills no bucket"
    account.follow(Quota("q", rate=2, burst=1), 0)
    assert account.bucket.take(0) == 0
    account.follow(Quota("q"), 0)
    assert account.bucket is None


def test_names_are_resolved_once():
    config = QuotaConfig(users=("a", "*"), in_flight=Size(7), requests_per_second=5)
    quota = build_quota(config, "access.quotas[0]", frozenset((1,)))
    assert (quota.burst, quota.in_flight) == (5, 7)
    assert quota.means(1)
    assert quota.means(2)
    assert not quota.means(None)
    assert build_quota(QuotaConfig(users=(), tcp=True), "", frozenset()).means(None)
