"""What ``runtime: auto`` chose on this machine, or would choose among; ``edged check``.

Asks the runtimes of themselves and reads what contests came to; holds none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edged.config.problems import field_path
from edged.config.schema import Config, ModelConfig
from edged.device.setting import device_setting
from edged.manifest import Manifest
from edged.runtimes.base import RuntimeInfo
from edged.runtimes.registry import AUTO, create_runtime, names_of
from edged.serving.choosing.choice import labels
from edged.serving.choosing.chooser import judged
from edged.serving.choosing.offer import Offer, by_preference, offer, setting_of, with_absent
from edged.store.findings import Findings

Ask = Callable[[str], RuntimeInfo]


def ask_runtime(name: str) -> RuntimeInfo:
    """What a runtime says of itself here; imports its package."""
    return create_runtime(name, threads=1).info()


def chosen_lines(
    config: Config,
    manifests: Mapping[str, Mapping[int, Manifest]],
    digests: Mapping[tuple[str, int], str],
    state_dir: Path,
    ask: Ask = ask_runtime,
) -> list[str]:
    """One line for each release whose runtime this machine chooses.

    Args:
        config: the configuration.
        manifests: by model and release, what its bundles promise.
        digests: of those manifests, by model and release.
        state_dir: where contests are remembered; what may not be read is not known.
        ask: what a runtime says of itself.
    """
    auto = {name: one for name, one in config.models.items() if one.runtime == AUTO}
    if not auto:
        return []
    infos = [ask(name) for name in names_of(AUTO)]
    contests = Findings.of(state_dir).contests
    lines = []
    for name, model in auto.items():
        for release, manifest in sorted(manifests.get(name, {}).items()):
            one = offer(manifest, infos, model.precision)
            setting = setting_of(one, model.precision, config.runtime.threads, device_setting())
            held = contests.get(digests[name, release], setting)
            why = judged(one, held).why if held is not None else _not_yet(one, model, config)
            path = field_path(field_path("models", name), "runtime")
            told = with_absent(why, one)
            lines.append(f"{path}: auto, release {release}: {told}")
    return lines


def _not_yet(one: Offer, model: ModelConfig, config: Config) -> str:
    """What will be done where no contest was held with what is here now."""
    said = labels(one.entries)
    if not said:
        return "nothing here can run it"
    if len(said) == 1:
        (pair,) = said
        return f"nothing but {pair.runtime} can run it here"
    if not config.trial.enabled and model.isolation == "none":
        (runtime, precision), *_ = by_preference(one)
        return f"{precision} on {runtime} comes first; without trials nothing is compared"
    return f"to be found out when it is loaded, among {', '.join(said.values())}"
