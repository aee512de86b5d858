"""The sections of caches, and what they may take together."""

from __future__ import annotations

from edged.config.cache import CacheConfig, cache_bytes, wanted_caches
from edged.config.pipeline import PipelineConfig, StepConfig
from edged.config.schema import Config, ModelConfig
from edged.specs import Size


def test_models_and_pipelines_that_have_one():
    one, two = CacheConfig(size=Size(5)), CacheConfig(size=Size(7), shared=False)
    pipeline = PipelineConfig(
        inputs={"x": "float32[batch,4]"}, steps=(StepConfig(name="a"),), outputs={}, cache=two
    )
    config = Config(
        models={"a": ModelConfig(bundle="b", cache=one), "b": ModelConfig(bundle="b")},
        pipelines={"p": pipeline},
    )
    assert wanted_caches(config) == {"a": one, "p": two}
    assert cache_bytes(config) == 12
    assert cache_bytes(Config()) == 0
