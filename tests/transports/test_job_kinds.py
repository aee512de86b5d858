"""Which class works on a binding's messages."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.binding import BindingConfig
from edged.config.keyed import MessageSequenceConfig
from edged.transports.job_kinds import job_kind
from edged.transports.pieces import PieceJob
from edged.transports.sequenced import SequenceJob
from edged.transports.work import Job


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({}, Job),
        ({"stream": True}, PieceJob),
        ({"sequence": MessageSequenceConfig(key="{d}")}, SequenceJob),
    ],
)
def test_by_what_was_written(words: dict[str, Any], kind: type[Job]) -> None:
    assert job_kind(BindingConfig(name="b", from_="in/{d}", model="m", **words)) is kind
