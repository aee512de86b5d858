"""What needs another session is another release; what does not is the same one."""

from __future__ import annotations

import pytest

from edged.config.schema import BatchingConfig, ModelConfig
from edged.serving.desired import Desired
from tests.fakes.model import FakeStored, doubler


def key(**config):
    section = ModelConfig(**{"bundle": "b", "runtime": ("openvino", "onnxruntime"), **config})
    return Desired("digest", FakeStored(doubler()), section).key


@pytest.mark.parametrize(
    "config",
    [
        {"runtime": ("onnxruntime", "openvino")},
        {"fallback": "deny"},
        {"precision": "int8"},
        {"isolation": "model"},
    ],
)
def test_another_session(config):
    assert key(**config) != key()


def test_the_same_session():
    assert key(batching=BatchingConfig(max_batch=3), warmup=7) == key()
    assert key(fallback="deny") == key(runtime=("openvino",))
