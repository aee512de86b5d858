"""Whether what an operator pins can be in memory at all, by the sizes in the manifests.

Pure. A model holds its own weights at least once, so that what is refused here could never be; what
passes may still turn out to need more (``serving/memory/load_line.py`` says so then).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edged.config.problems import field_path
from edged.config.schema import Config
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.registry import home_of, kinds_of, names_of

Found = tuple[str, str]
"""A field path and what is wrong with it."""


def least_bytes(manifest: Manifest, config: Config) -> int:
    """The bytes of the smallest of the files that could be loaded, with what lies beside it."""
    model = config.models[manifest.name]
    kinds = {kind for name in names_of(model.runtime) for kind in kinds_of(name)}
    sizes = {member.name: member.size for member in manifest.members}
    beside = sum(member.size for member in manifest.members if member.type == "onnx-data")

    def fits(entry: ArtefactEntry) -> bool:
        return entry.runtime in kinds and model.precision in ("auto", entry.precision)

    def bytes_of(entry: ArtefactEntry) -> int:
        return sizes[entry.file] + (beside if entry.runtime == "onnx" else 0)

    return min((bytes_of(one) for one in manifest.artefacts if fits(one)), default=0)


def check_memory(
    config: Config, manifests: Mapping[str, Mapping[int, Manifest]]
) -> Iterator[Found]:
    """Every model that cannot be in memory, and pinned ones that cannot be there together.

    Args:
        config: the configuration.
        manifests: by model and release, of those whose bundles are good.
    """
    for device, field, budget in (
        ("cpu", "memory.budget", config.memory.budget),
        ("cuda", "memory.cuda", config.memory.cuda),
    ):
        if budget is not None:
            names = [name for name in manifests if _device(config, name) == device]
            yield from _check_one(config, {name: manifests[name] for name in names}, field, budget)


def _check_one(
    config: Config, manifests: Mapping[str, Mapping[int, Manifest]], field: str, budget: int
) -> Iterator[Found]:
    pinned: dict[str, int] = {}
    for name, releases in manifests.items():
        sizes = [least_bytes(manifest, config) for manifest in releases.values()]
        if config.models[name].memory.pinned:
            pinned[name] = sum(sizes)
        elif max(sizes, default=0) > budget:
            text = f"has {_mib(max(sizes))} of weights, and {field} is {_mib(budget)}"
            yield _path(name, "bundle"), f"{text}; raise it"
    if sum(pinned.values()) > budget:
        listed = ", ".join(f"{name} {_mib(size)}" for name, size in pinned.items())
        last = list(pinned)[-1]
        text = f"pinned models have {_mib(sum(pinned.values()))} of weights together ({listed})"
        yield (
            f"{_path(last, 'memory')}.pinned",
            f"{text}, and {field} is {_mib(budget)}; raise it or pin fewer",
        )


def _device(config: Config, name: str) -> str:
    return home_of(config.models[name].runtime)


def _path(name: str, field: str) -> str:
    return field_path(field_path("models", name), field)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
