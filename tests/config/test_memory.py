"""The words about memory: what they are when nothing is said, and what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import load
from edged.config.memory import MemoryConfig, ModelMemoryConfig
from edged.config.problems import ConfigProblemsError


def read(tmp_path: Path, text: str):
    (tmp_path / "edged.yaml").write_text("trust: {require_signatures: false}\n" + text)
    return load(tmp_path).config


def test_nothing_said(tmp_path: Path):
    config = read(tmp_path, "models: {a: {bundle: a.edgb}}\n")
    assert config.memory == MemoryConfig(budget=None, cuda=None)
    memory = ModelMemoryConfig(pinned=False, load="eager", swap="overlap")
    assert config.models["a"].memory == memory


def test_all_said(tmp_path: Path):
    config = read(
        tmp_path,
        "memory: {budget: 600MiB, cuda: 2GiB}\n"
        "models: {a: {bundle: a.edgb, memory: {load: lazy, swap: replace}}}\n",
    )
    assert (config.memory.budget, config.memory.cuda) == (600 << 20, 2 << 30)
    assert config.models["a"].memory == ModelMemoryConfig(load="lazy", swap="replace")


@pytest.mark.parametrize(
    "text",
    ["memory: {budget: 5}", "memory: {cuda: 3kB}", "memory: {budget: 0}", "memory: {bugdet: 1GiB}"],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str):
    with pytest.raises(ConfigProblemsError, match="memory"):
        read(tmp_path, text + "\n")
