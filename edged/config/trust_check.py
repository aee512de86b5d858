"""Keys, thresholds and the trust document: what of them cannot work together."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.problems import quote
from edged.config.schema import Config, TrustConfig

_NO_KEYS = (
    "no key is trusted, so no bundle can be accepted; make one with `edged-convert keygen` and "
    "list its .pub file here, or write `require_signatures: false` on a test bench"
)


def trust_problems(config: Config) -> Iterator[tuple[str, str]]:
    """What cannot work."""
    trust = config.trust
    if "architecture" in config.labels:
        yield "labels.architecture", "the machine says that itself; remove it"
    if trust.root is not None:
        for name in ("keys", "threshold"):
            if getattr(trust, name) != getattr(TrustConfig(), name):
                yield f"trust.{name}", "the trust document of `root` says that; remove one of them"
        return
    if trust.require_signatures and not trust.keys and config.models:
        yield "trust.keys", _NO_KEYS
    elif trust.require_signatures and trust.keys and trust.threshold > len(trust.keys):
        text = f"{trust.threshold} distinct keys must sign, but trust.keys lists {len(trust.keys)}"
        yield "trust.threshold", f"{text}; lower it or list more keys"
    for index, key in enumerate(trust.keys):
        if key in trust.keys[:index]:
            yield f"trust.keys[{index}]", f"{quote(key)} is listed twice; remove one"
