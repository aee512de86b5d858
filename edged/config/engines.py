"""What an operator says about TensorRT engines that the device builds itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration, Size

_LEAST_CACHE_BYTES = 1 << 20
"""The smallest engines have some hundred KiB."""
_LEAST_MEMORY_BYTES = 64 << 20
"""Python and NumPy alone take as much."""
_LEAST_NS, _LONGEST_NS = 1_000_000_000, 7 * 24 * 3600 * 1_000_000_000


class EnginesConfig(Section, frozen=True, kw_only=True):
    """Engines of models whose ``runtime`` has tensorrt, built from the ONNX files of the bundle."""

    build: Annotated[
        Literal["auto", "manual", "never"],
        Meta(
            description="auto: while the next runtime serves; manual: by edged build alone; "
            "never: only engines of the bundle are used"
        ),
    ] = "auto"
    memory: Annotated[
        Size | None,
        Meta(description="most private memory of the building process; default: half of all"),
    ] = None
    timeout: Annotated[
        Duration,
        Meta(description="longest build, pauses left out; large networks take half an hour"),
    ] = Duration(3600 * 1_000_000_000)
    quiet: Annotated[
        Duration, Meta(description="no build begins so soon after a model was loaded")
    ] = Duration(10_000_000_000)
    cache_size: Annotated[
        Size,
        Meta(description="bytes of all engines that are kept; the longest unused go first"),
    ] = Size(4 << 30)


def engines_problems(section: EnginesConfig) -> Iterator[tuple[str, str]]:
    """Field paths, and what is wrong with them."""
    if section.cache_size < _LEAST_CACHE_BYTES:
        yield "engines.cache_size", "would keep no engine; expected at least 1MiB"
    if section.memory is not None and section.memory < _LEAST_MEMORY_BYTES:
        yield "engines.memory", "is less than the process needs for itself; expected at least 64MiB"
    if not _LEAST_NS <= section.timeout <= _LONGEST_NS:
        yield "engines.timeout", "is outside what can work; expected 1s to 168h"
