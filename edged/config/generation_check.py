"""What can be said of models that make texts from the configuration alone."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.problems import field_path
from edged.config.schema import Config

RUNTIME = "onnxruntime-genai"


def generation_problems(config: Config) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there."""
    for name, model in config.models.items():
        if isinstance(model.runtime, str) or RUNTIME not in model.runtime:
            if model.generation is not None:
                text = f"bounds texts, which are made by runtime: [{RUNTIME}]; remove it"
                yield f"{field_path('models', name)}.generation", text
            continue
        path = field_path("models", name)
        if len(model.runtime) > 1:
            yield f"{path}.runtime", f"{RUNTIME} makes texts and no other can; name it alone"
        if model.isolation != "model":
            text = (
                f"{RUNTIME} holds up every thread of its process while it computes a token; a "
                "process of its own makes the texts: write isolation: model"
            )
            yield f"{path}.isolation", text
        if model.sequence is not None:
            yield f"{path}.sequence", "a model that makes texts has no state tensors; remove it"
