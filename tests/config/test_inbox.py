"""The words of the inbox."""

from __future__ import annotations

import pytest

from edged.config.inbox import InboxConfig, inbox_problems
from edged.config.schema import Config
from edged.specs import Duration


@pytest.mark.parametrize(("quiet", "count"), [(1, 0), (3600, 0), (0, 1), (3601, 1)])
def test_quiet(quiet: int, count: int) -> None:
    inbox = InboxConfig(folder="inbox", quiet=Duration(quiet * 10**9))
    found = list(inbox_problems(Config(inbox=inbox)))
    assert [path for path, _ in found] == ["inbox.quiet"] * count


def test_none() -> None:
    assert list(inbox_problems(Config())) == []
