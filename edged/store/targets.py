"""Which devices a bundle is for: by what the machine is, and by the labels that its operator wrote.

Decides whether a release may be here at all. What a bundle asks for must all be so; it is refused
before anything of it is stored.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from edged.errors import IncompatibleError
from edged.manifest import Manifest

ARCHITECTURE = "architecture"
"""The one word that no operator writes: the machine says it."""
_SAME = {"arm64": "aarch64", "amd64": "x86_64"}


class NotForHereError(IncompatibleError):
    """A release for other devices."""


def device_words(labels: Mapping[str, str], machine: str | None = None) -> dict[str, str]:
    """What this device is.

    Args:
        labels: of the configuration.
        machine: its processor; default: what the kernel says.
    """
    said = platform.machine() if machine is None else machine
    return {**labels, ARCHITECTURE: _SAME.get(said.lower(), said)}


def check_targets(manifest: Manifest, device: Mapping[str, str]) -> None:
    """Refuse a release that is for other devices.

    Raises:
        NotForHereError: it is; names the first word that does not fit.
    """
    if not isinstance(manifest.targets, dict):
        return
    for word, wanted in sorted(manifest.targets.items()):
        have = device.get(word)
        if have in wanted:
            continue
        is_ours = word == ARCHITECTURE
        here = f"this device is {have}" if have else f'this device has no label "{word}"'
        raise NotForHereError(
            f"release {manifest.release} of {manifest.name} is for other devices: {word} "
            f"{' or '.join(wanted)}; {here}" + ("" if is_ours else " (labels of the configuration)")
        )
