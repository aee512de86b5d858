"""What an operator says of engines: defaults, and what cannot work."""

from __future__ import annotations

import pytest

from edged.config.engines import EnginesConfig, engines_problems
from edged.specs import Duration, Size


def test_what_is_said_by_default_works():
    assert list(engines_problems(EnginesConfig())) == []


@pytest.mark.parametrize(
    ("section", "path"),
    [
        (EnginesConfig(cache_size=Size((1 << 20) - 1)), "engines.cache_size"),
        (EnginesConfig(memory=Size((64 << 20) - 1)), "engines.memory"),
        (EnginesConfig(timeout=Duration(999_999_999)), "engines.timeout"),
        (EnginesConfig(timeout=Duration(169 * 3600 * 10**9)), "engines.timeout"),
    ],
)
def test_what_cannot_work_is_said(section, path):
    [(where, text)] = engines_problems(section)
    assert where == path
    assert "expected" in text
