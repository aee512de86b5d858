"""What is shown of the outbox."""

from edged.outbox.tally import Tally


def test_all_of_it() -> None:
    assert Tally(kept=3).as_dict() == {
        "kept": 3, "delivered": 0, "dropped": 0, "superseded": 0, "expired": 0, "refused": 0,
        "corrupt": 0, "torn": 0, "blocked": 0, "failed": 0,
    }  # fmt: skip
