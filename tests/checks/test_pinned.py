"""What can never be in memory is said before it is tried, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.checks.pinned import check_memory, least_bytes
from edged.config.memory import MemoryConfig, ModelMemoryConfig
from edged.config.schema import Config, ModelConfig
from edged.specs import Size
from tests.bundles import ONNX, make_bundle, make_manifest
from tests.models import heavy
from tests.verdicts import check_config

MODEL = heavy(1, 256)
WEIGHTS = len(MODEL.data)


def config(budget: int | None, *, pinned: bool = True, names: str = "ab") -> Config:
    memory = ModelMemoryConfig(pinned=pinned)
    models = {name: ModelConfig(bundle="b", memory=memory) for name in names}
    return Config(
        memory=MemoryConfig(budget=None if budget is None else Size(budget)), models=models
    )


def found(made: Config) -> list[tuple[str, str]]:
    manifests = {name: {1: make_manifest(MODEL, name=name)[0]} for name in made.models}
    return list(check_memory(made, manifests))


@pytest.mark.parametrize(
    ("made", "paths"),
    [
        (config(None), []),
        (config(2 * WEIGHTS), []),
        (config(2 * WEIGHTS - 1), ["models.b.memory.pinned"]),
        (config(WEIGHTS, pinned=False), []),
        (config(WEIGHTS - 1, pinned=False), ["models.a.bundle", "models.b.bundle"]),
    ],
)
def test_what_cannot_be(made: Config, paths: list[str]):
    assert [path for path, _ in found(made)] == paths


def test_a_gpu_has_memory_of_its_own():
    memory = MemoryConfig(budget=Size(WEIGHTS), cuda=Size(WEIGHTS - 1))
    on_gpu = ModelConfig(
        bundle="b", runtime=("onnxruntime-cuda",), memory=ModelMemoryConfig(pinned=True)
    )
    on_host = ModelConfig(bundle="b", memory=ModelMemoryConfig(pinned=True))
    ((path, text),) = found(Config(memory=memory, models={"a": on_gpu, "b": on_host}))
    assert path == "models.a.memory.pinned"
    assert "memory.cuda is" in text


def test_a_device_that_chooses_its_runtime_counts_in_the_memory_of_the_host():
    memory = ModelMemoryConfig(pinned=True)
    made = Config(
        memory=MemoryConfig(budget=Size(WEIGHTS - 1), cuda=Size(1)),
        models={"a": ModelConfig(bundle="b", runtime="auto", memory=memory)},
    )
    ((_, text),) = found(made)
    assert "memory.budget is" in text


def test_every_release_of_a_pinned_model_stays():
    made = config(2 * WEIGHTS - 1, names="a")
    both = {number: make_manifest(MODEL, name="a", release=number)[0] for number in (1, 2)}
    assert [path for path, _ in check_memory(made, {"a": both})] == ["models.a.memory.pinned"]


def test_the_smallest_file_that_may_be_loaded_counts():
    manifest, _ = make_manifest(MODEL, name="a", extra={"more": ("onnx-data", b"x" * 1000)})
    assert least_bytes(manifest, config(None)) == WEIGHTS + 1000
    only = Config(models={"a": ModelConfig(bundle="b", precision="int8")})
    assert least_bytes(manifest, only) == 0, "that it has none is said elsewhere"
    assert ONNX.precision == "float32"


def test_with_file_and_line(tmp_path: Path):
    for name in "ab":
        make_bundle(tmp_path / f"{name}.edgb", heavy(2), name=name)
    (tmp_path / "edged.yaml").write_text(
        "trust: {require_signatures: false}\n"
        "memory: {budget: 6MiB}\n"
        "models:\n"
        "  a: {bundle: a.edgb, memory: {pinned: true}}\n"
        "  b:\n"
        "    bundle: b.edgb\n"
        "    memory: {pinned: true}\n"
    )
    problems, _ = check_config(tmp_path, with_files=True)
    (problem,) = problems
    assert problem == (
        f"{tmp_path}/edged.yaml:7:22: models.b.memory.pinned: pinned models have 9.4 MiB of weights "
        "together (a 4.7 MiB, b 4.7 MiB), and memory.budget is 6.0 MiB; raise it or pin fewer"
    )
