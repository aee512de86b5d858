"""Which answers of a binding are worth a message, as an operator writes it. Words only."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration


class PublishConfig(Section, frozen=True, kw_only=True):
    """When an answer is published; one that is not is counted and its request acknowledged."""

    when: Annotated[
        Literal["always", "on_change", "dead_band", "every", "above"],
        Meta(description="dead_band: numbers moved by more than band; above: reached threshold"),
    ] = "always"
    field: Annotated[
        Annotated[str, Meta(min_length=1, max_length=256)] | None,
        Meta(description="path in a row to look at; default: label and score, else all of it"),
    ] = None
    band: Annotated[float, Meta(ge=0, description="of dead_band, in the field's unit")] = 0.0
    threshold: Annotated[
        float | None, Meta(description="of above: the least number that is published")
    ] = None
    every: Annotated[
        Duration | None, Meta(description="of every: at most one answer a key in so long")
    ] = None
    silence: Annotated[
        Duration | None,
        Meta(description="publish the next answer after so long without one, whatever it says"),
    ] = None
    key: Annotated[
        Annotated[str, Meta(min_length=1, max_length=256)] | None,
        Meta(description="what is told apart, e.g. {device}; default: the request's topic"),
    ] = None
    max_keys: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="keys remembered; the longest unused is forgotten"),
    ] = 10_000
