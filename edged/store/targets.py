"""Which devices a bundle is for: by what each is, by its operator's labels, and by its edged.

Decides whether a release may be here at all. What a bundle asks for must all be so; it is refused
before anything of it is stored.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from edged.errors import IncompatibleError
from edged.manifest import Manifest, version_tuple
from edged.version import __version__

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


def check_here(manifest: Manifest, device: Mapping[str, str] | None) -> None:
    """Refuse a bundle for a newer edged or other devices; raises IncompatibleError."""
    check_requires(manifest)
    if device is not None:
        check_targets(manifest, device)


def check_requires(manifest: Manifest) -> None:
    """Refuse a bundle that needs a newer edged than this; raises IncompatibleError."""
    wanted = manifest.requires.edged
    if version_tuple(wanted) > version_tuple(__version__):
        raise IncompatibleError(
            f'model "{manifest.name}" release {manifest.release} needs edged {wanted} or newer; '
            f"this is {__version__}"
        )
