"""Which class works on a message."""

from __future__ import annotations

from typing import Any

import pytest

from edged.config.binding import BindingConfig
from edged.config.keyed import JoinConfig, MessageSequenceConfig, WindowConfig
from edged.transports.bindings.binding import Binding, Route
from edged.transports.bindings.job_kinds import job_kind
from edged.transports.bindings.joined import JoinJob, PartJob
from edged.transports.bindings.pieces import PieceJob
from edged.transports.bindings.sequenced import SequenceJob
from edged.transports.bindings.windowed import WindowJob
from edged.transports.bindings.work import Job

JOIN = {"fields": ("a",), "join": (JoinConfig(from_="other", fields=("b",)),)}


@pytest.mark.parametrize(
    ("words", "part", "kind"),
    [
        ({}, -1, Job),
        ({"stream": True}, -1, PieceJob),
        ({"sequence": MessageSequenceConfig(key="{d}")}, -1, SequenceJob),
        ({"window": WindowConfig(rows=4)}, -1, WindowJob),
        (JOIN, -1, JoinJob),
        (JOIN, 0, PartJob),
    ],
)
def test_by_what_was_written(words: dict[str, Any], part: int, kind: type[Job]) -> None:
    config = BindingConfig(name="b", from_="in/{d}", model="m", **words)
    assert job_kind(Route(Binding(config, "b"), None, part=part)) is kind
