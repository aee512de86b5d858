"""What the tests of generations share: loads that do not give way."""

from __future__ import annotations

import pytest

from edged.serving.memory import loader_thread
from edged.system.cores import spread


@pytest.fixture(autouse=True)
def _loads_give_way_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind everything else on a machine that other tests keep busy, a load would hardly ever run.

    ``tests/serving/memory/test_loader_thread.py`` holds that it gives way.
    """
    monkeypatch.setattr(loader_thread, "_lower_priority", spread)
