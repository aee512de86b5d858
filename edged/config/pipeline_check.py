"""What can be said of pipelines from the configuration alone: names and the models they ask.

What fits what is asked with the models' manifests at hand (``edged.pipelines.plan``).
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from edged.config.problems import did_you_mean, field_path, quote
from edged.config.schema import Config


def pipeline_problems(config: Config, marks: Container[str]) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        config: as far as it could be converted.
        marks: every field that was written: a model with problems of its own is missing above.
    """
    for name, pipeline in config.pipelines.items():
        path = field_path("pipelines", name)
        if name in config.models:
            yield path, f"{quote(name)} is the name of a model too; clients could ask only one"
        for index, step in enumerate(pipeline.steps):
            if step.model is not None:
                here = f"{path}.steps[{index}].model"
                for text in _model_problems(config, marks, step.model):
                    yield here, text


def _model_problems(config: Config, marks: Container[str], reference: str) -> Iterator[str]:
    name, at, release = reference.partition("@")
    if name in config.pipelines:
        yield f"{quote(name)} is a pipeline; write its steps here, or ask its models"
        return
    model = config.models.get(name)
    if model is None:
        if field_path("models", name) not in marks:
            known = sorted(config.models)
            listed = ", ".join(known[:10]) or "none"
            near = did_you_mean(name, known)
            yield f"no model is named {quote(name)}{near}; models: {listed}"
        return
    is_number = release.isascii() and release.isdigit() and not release.startswith("0")
    if at and not is_number and release not in model.aliases:
        listed = ", ".join(sorted(model.aliases)) or "none"
        near = did_you_mean(release, sorted(model.aliases))
        yield (
            f"{quote(release)} is neither a release number nor an alias of {quote(name)}{near}; "
            f"aliases: {listed}"
        )
