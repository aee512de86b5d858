"""A release that should be there, as a configuration says it."""

from __future__ import annotations

from dataclasses import dataclass, field

from edged.config.preference import may_serve
from edged.config.schema import ModelConfig
from edged.runtimes.registry import APART
from edged.serving.lifecycle import ReleaseKey
from edged.store.stored import Stored


@dataclass(frozen=True, slots=True)
class Desired:
    """One release that should be there.

    Args:
        digest: of its manifest.
        stored: the verified bundle.
        config: the model's section of the configuration.
        edition: how often it was loaded again beside itself; another one is another session.
    """

    digest: str
    stored: Stored
    config: ModelConfig
    edition: int = 0
    key: ReleaseKey = field(init=False, repr=False, compare=False)
    """What it is, with the options that need another session."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self._key())

    def _key(self) -> ReleaseKey:
        config = self.config
        served = may_serve(config.runtime, config.fallback)
        options = served if isinstance(served, str) else ",".join(served)
        if config.precision != "auto":
            options += f" {config.precision}"
        # An engine lives in a worker all the same (``inside.py``).
        if config.isolation != "none" or not APART.isdisjoint(served):
            worker, ways = config.worker, config.batching.instances
            options += f" {config.isolation} {worker.memory} {worker.run_timeout} {ways}"
        if config.sequence is not None:
            options += f" keeps {config.sequence.pairs}"
        if self.edition:
            options += f" edition {self.edition}"
        return ReleaseKey(self.stored.manifest.name, self.digest, options)
