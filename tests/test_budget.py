"""How much memory models may take together."""

from __future__ import annotations

import pytest

from edged import budget as module
from edged.budget import budget_of
from edged.config.schema import Config, MemoryConfig
from edged.serving.manager import NO_BUDGET
from edged.specs import Size


@pytest.fixture(autouse=True)
def _fresh():
    module._automatic.cache_clear()
    yield
    module._automatic.cache_clear()


def test_what_an_operator_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 1)
    assert budget_of(Config(memory=MemoryConfig(budget=Size(5 << 20)))) == 5 << 20


def test_three_quarters_of_what_is_free_at_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 400)
    assert budget_of(Config()) == 300
    monkeypatch.setattr(module, "available_bytes", lambda: 4)
    assert budget_of(Config()) == 300, "what is loaded by now is no reason to have less"


def test_nobody_knows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    assert budget_of(Config()) == NO_BUDGET
