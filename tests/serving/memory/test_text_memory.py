"""The memory of texts under way."""

from __future__ import annotations

import pytest

from edged.config.generation import GenerationConfig
from edged.config.schema import BatchingConfig, ModelConfig
from edged.loading import Footprint
from edged.runtimes.genai_config import CONFIG
from edged.serving.memory.text_memory import with_texts
from tests.fakes import texts
from tests.fakes.model import FakeStored, doubler

TOKEN = 512
"""Bytes: 2 layers of 2 heads of 16 numbers, keys and values in float32."""


class TextStored(FakeStored):
    def artefact(self, runtime: str, precision: str = "") -> bytes:
        assert runtime == "genai"
        return texts.files()[CONFIG]


@pytest.fixture
def stored() -> TextStored:
    manifest = texts.text_manifest()
    (entry,) = manifest.artefacts
    names = tuple(name for name in texts.files() if name != CONFIG)
    made = type(entry)(entry.runtime, entry.file, files=names)
    return TextStored(type(manifest)(**{
        **{name: getattr(manifest, name) for name in manifest.__struct_fields__},
        "artefacts": (made,),
    }))  # fmt: skip


def config(**fields: int) -> ModelConfig:
    instances = fields.pop("instances", 0)
    return ModelConfig(
        bundle="b",
        generation=GenerationConfig(**fields) if fields else None,
        batching=BatchingConfig(instances=instances),
    )


@pytest.mark.parametrize(
    ("section", "tokens"),
    [
        (config(), 512),  # the context is shorter than the defaults
        (config(max_prompt=100, max_new_tokens=50), 150),
        (config(max_prompt=100, max_new_tokens=50, instances=3), 450),
    ],
)
def test_as_if_all_were_of_full_length(stored: TextStored, section: ModelConfig, tokens: int):
    found = with_texts(Footprint(200, 100, 7, is_measured=True), stored, section)
    kept = tokens * TOKEN
    assert found == Footprint(200 + kept, 100 + kept, 7, is_measured=True)


def test_other_models_have_none():
    one = Footprint(200, 100)
    assert with_texts(one, FakeStored(doubler()), config()) is one
