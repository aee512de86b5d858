"""What needs another session is another release; what does not is the same one."""

from __future__ import annotations

import pytest

from edged.config.schema import BatchingConfig, ModelConfig, WorkerConfig
from edged.serving.desired import Desired
from edged.specs import Duration
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


def test_the_caps_of_a_worker_count_where_there_is_one():
    caps = {"worker": WorkerConfig(run_timeout=Duration(7))}
    assert key(**caps) == key()
    assert key(**caps, isolation="device") != key(isolation="device")
    engines = {"runtime": ("tensorrt", "onnxruntime")}
    assert key(**caps, **engines) != key(**engines)


def test_the_same_session():
    assert key(batching=BatchingConfig(max_batch=3), warmup=7) == key()
    assert key(fallback="deny") == key(runtime=("openvino",))
