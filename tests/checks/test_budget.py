"""How much memory models may take together."""

from __future__ import annotations

import pytest

from edged.checks import budget as module
from edged.checks.budget import budgets_of
from edged.config.cache import CacheConfig
from edged.config.memory import MemoryConfig
from edged.config.schema import Config, ModelConfig
from edged.device.nvidia import Gpu, NvidiaInfo
from edged.specs import Size

ON_GPU = {"m": ModelConfig(bundle="b", runtime=("onnxruntime-cuda",))}


@pytest.fixture(autouse=True)
def _fresh():
    module._share_of_host.cache_clear()
    module._share_of_gpu.cache_clear()
    yield
    module._share_of_host.cache_clear()
    module._share_of_gpu.cache_clear()


def gpu(monkeypatch: pytest.MonkeyPatch, total: int | None, used: int | None) -> None:
    one = Gpu(0, "g", None, None, total, used, None, None, None)
    monkeypatch.setattr(module, "read_nvidia", lambda: NvidiaInfo("1", (), (one,)))


def test_what_an_operator_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 1)
    memory = MemoryConfig(budget=Size(5 << 20), cuda=Size(7 << 20))
    assert budgets_of(Config(memory=memory)) == {"cpu": 5 << 20}
    assert budgets_of(Config(memory=memory, models=ON_GPU)) == {"cpu": 5 << 20, "cuda": 7 << 20}


def test_three_quarters_of_what_is_free_at_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 400)
    gpu(monkeypatch, 1000, 200)
    assert budgets_of(Config(models=ON_GPU)) == {"cpu": 300, "cuda": 600}
    monkeypatch.setattr(module, "available_bytes", lambda: 4)
    gpu(monkeypatch, 1000, 999)
    words = "what is loaded by now is no reason to have less"
    assert budgets_of(Config(models=ON_GPU)) == {"cpu": 300, "cuda": 600}, words


def test_nobody_knows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    gpu(monkeypatch, None, None)
    assert budgets_of(Config(models=ON_GPU)) == {}


def test_nvml_is_not_asked_for_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "read_nvidia", lambda: pytest.fail("asked"))
    assert set(budgets_of(Config())) == {"cpu"}


def test_what_caches_may_take_is_theirs(monkeypatch: pytest.MonkeyPatch):
    models = {"m": ModelConfig(bundle="b", cache=CacheConfig(size=Size(100)))}
    monkeypatch.setattr(module, "available_bytes", lambda: 400)
    assert budgets_of(Config(models=models)) == {"cpu": 200}
    memory = MemoryConfig(budget=Size(150))
    assert budgets_of(Config(memory=memory, models=models)) == {"cpu": 50}
    memory = MemoryConfig(budget=Size(50))
    assert budgets_of(Config(memory=memory, models=models)) == {"cpu": 0}
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    module._share_of_host.cache_clear()
    assert budgets_of(Config(models=models)) == {}
