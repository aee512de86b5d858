"""Scheduling words: what edged's configuration says of them, and what is reported instead."""

import pytest

from converters.registries.triton_model import read_model
from converters.registries.triton_settings import Batching, batching_of, edged_settings

INPUT = 'input { name: "x" data_type: TYPE_FP32 dims: 4 } '


def read(repository, config):
    repository("m", f'backend: "onnxruntime" {config}')
    return read_model(repository.root, "m")


def settings(repository, config):
    model = read(repository, config)
    batching = batching_of(model, could_batch=True)
    return edged_settings(model, batching), " ".join(model.differences)


def test_dynamic_batching_one_to_one(repository):
    section, differences = settings(
        repository,
        "max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 500 "
        "default_queue_policy { max_queue_size: 64 } } instance_group { count: 3 kind: KIND_CPU }",
    )
    assert section == {
        "batching": {"max_batch": 16, "max_queue_delay": "500us", "instances": 3},
        "queue": {"max_rows": 64},
    }
    assert differences == "max_queue_size 64: counts rows, not requests"


def test_an_empty_message_means_on_without_delay(repository):
    section, differences = settings(repository, "max_batch_size: 8 dynamic_batching { }")
    assert section == {"batching": {"max_batch": 8}}
    assert "runs alone" not in differences
    assert "no bound in Triton" in differences


def test_batching_off_is_told(repository):
    section, differences = settings(repository, "max_batch_size: 8")
    assert section == {"batching": {"max_batch": 8}}
    assert "each request runs alone" in differences


@pytest.mark.parametrize(
    ("config", "could", "rows"),
    [("", True, 4), ("", False, 0), (INPUT, True, 0), ("max_batch_size: 2", True, 2)],
)
def test_triton_completes_a_missing_max_batch_size(repository, config, could, rows):
    model = read(repository, config)
    batching = batching_of(model, could_batch=could)
    assert batching.rows == rows
    assert batching.is_completed == (rows == 4)
    assert any("completes it to 4" in text for text in model.differences) == (rows == 4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("dynamic_batching { preferred_batch_size: [ 4, 8 ] }", "preferred_batch_size [4]"),
        ("dynamic_batching { preserve_ordering: true }", "preserve_ordering"),
        ("dynamic_batching { priority_levels: 2 }", "priority_levels: edged has one queue"),
        (
            "dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 1 } } }",
            "priority_queue_policy",
        ),
        (
            "dynamic_batching { default_queue_policy { default_timeout_microseconds: 5 } }",
            "a deadline belongs to the request",
        ),
        ("dynamic_batching { max_queue_delay_microseconds: 70000000 }", "cut to 60000000"),
        ("instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }", "gpus [0, 1] are not chosen"),
        ("instance_group { kind: KIND_GPU }", "KIND_GPU; edged runs this bundle on the CPU"),
        ("instance_group { passive: true }", "passive"),
        ("instance_group { secondary_devices { kind: KIND_NVDLA } }", "secondary_devices"),
        ('instance_group { profile: "1" }', "profile"),
        ("instance_group { rate_limiter { priority: 1 } }", "rate_limiter"),
        ("instance_group { count: 100 }", "cut to 64"),
        ("optimization { graph { level: 1 } }", "optimization.graph"),
        ("optimization { cuda { graphs: true } }", "optimization.cuda"),
        ("optimization { priority: PRIORITY_MAX }", "optimization.priority"),
        ("optimization { input_pinned_memory { enable: false } }", "input_pinned_memory"),
        (
            'optimization { execution_accelerators { gpu_execution_accelerator { name: "x" } } }',
            "execution_accelerators: x is not used",
        ),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "2" } }',
            'intra_op_thread_count = "2"',
        ),
        ('cc_model_filenames { key: "8.7" value: "a.onnx" }', "cc_model_filenames"),
        ('metric_tags { key: "a" value: "b" }', "metric_tags"),
        ("response_cache { enable: true }", "response_cache"),
        ('model_repository_agents { agents { name: "checksum" } }', "model_repository_agents"),
        ("model_metrics { }", "model_metrics"),
        ('model_warmup { name: "w" }', "model_warmup"),
    ],
)
def test_nothing_is_dropped_in_silence(repository, config, words):
    section, differences = settings(repository, f"max_batch_size: 8 {config}")
    assert words in differences
    assert section["batching"]["max_batch"] == 8


def test_kept_answers_and_runs_before_the_first_request(repository):
    section, _ = settings(
        repository,
        'max_batch_size: 8 response_cache { enable: true } model_warmup { name: "w" count: 500 } '
        'model_warmup { name: "v" count: 3 }',
    )
    assert (section["cache"], section["warmup"]) == ({"size": "16MiB"}, 100)


def test_what_triton_does_anyway_is_not_written(repository):
    section, _ = settings(
        repository,
        'max_batch_size: 8 response_cache { enable: false } model_warmup { name: "w" count: 1 }',
    )
    assert not {"cache", "warmup"} & section.keys()


def test_every_field_of_the_configuration_is_dealt_with(repository):
    """A field of ModelConfig that no file here names would be dropped without a word."""
    from pathlib import Path

    from converters.registries import triton_model
    from converters.registries.pbtxt import MESSAGES

    folder = Path(triton_model.__file__).parent
    code = "".join(path.read_text() for path in folder.glob("triton_*.py"))
    # A hint for people, of which Triton makes nothing for ONNX; and what is left of three choices.
    known = {"format", "random_data"}
    for message in (
        *("ModelConfig", "Input", "Output", "DynamicBatching", "QueuePolicy", "InstanceGroup"),
        *("Ensemble", "Step", "Warmup", "WarmupInput", "VersionPolicy"),
    ):
        for text in MESSAGES[message].split():
            name = text.partition(":")[0]
            assert name in code or name in known, f"{message}.{name}"


def test_batching_without_rows_has_no_batch_section(repository):
    model = read(repository, INPUT + "dynamic_batching { max_queue_delay_microseconds: 5 }")
    assert edged_settings(model, Batching(0)) == {}
    assert any("has no effect" in text for text in model.differences)
