"""What a model that makes texts takes beside itself: the keys and values of texts under way.

They are there while texts are made and cannot be measured by a load, so they are counted as if all
that may be made at once were of full length.
"""

from __future__ import annotations

from edged.config.generation import GenerationConfig
from edged.config.schema import ModelConfig
from edged.generating import KIND
from edged.loading import Footprint
from edged.runtimes.genai_config import read_config
from edged.store.stored import Stored


def with_texts(found: Footprint, stored: Stored, config: ModelConfig) -> Footprint:
    """A model's footprint with that of its texts; as it is where it makes none.

    Args:
        found: of the model.
        stored: its bundle.
        config: its section.

    Raises:
        ManifestError: the bundle's configuration is none.
    """
    entry = next((one for one in stored.manifest.artefacts if one.runtime == KIND), None)
    if entry is None or not isinstance(entry.files, tuple):
        return found
    made = read_config(stored.artefact(KIND), entry.files)
    allowed = config.generation or GenerationConfig()
    tokens = min(made.model.context_length, allowed.max_prompt + allowed.max_new_tokens)
    kept = max(1, config.batching.instances) * tokens * made.token_bytes
    return found._replace(peak=found.peak + kept, held=found.held + kept)
