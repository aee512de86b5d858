"""What an operator says about a release that is tried beside the one that serves. Words only.

``canary`` and ``trafficPercent`` are KServe's words, and mean here what they mean there.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edged.config.section import Section
from edged.specs import Duration

ReleaseNumber = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Percent = Annotated[int, Meta(ge=0, le=100)]
KeyName = Annotated[str, Meta(min_length=1, max_length=64)]
Figure = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,15}\Z")]

USER = "user"
"""The key that is who asks, and no parameter of the request."""


class CanaryConfig(Section, frozen=True, kw_only=True):
    """A release that gets a part of the requests, until it is promoted or rolled back."""

    release: Annotated[ReleaseNumber, Meta(description="the number of the new release")]
    traffic_percent: Annotated[
        Percent, Meta(description="of the requests, or of the keys; 0: none, but it stays loaded")
    ] = msgspec.field(name="trafficPercent")
    key: Annotated[
        KeyName | None,
        Meta(
            description="what stays on one side: a request's parameter or a named topic level of "
            "this name, or user = who asks; default: each request for itself"
        ),
    ] = None


class ShadowConfig(Section, frozen=True, kw_only=True):
    """A release that is asked the same afterwards, and whose answers are compared, never given."""

    release: Annotated[ReleaseNumber, Meta(description="the number of the release")]
    percent: Annotated[Percent, Meta(description="of the requests that are asked again")] = 100
    cost: Annotated[
        int,
        Meta(
            ge=1, le=100,
            description="percent of the time that its runs may take; beyond it none is asked again",
        ),
    ] = 10  # fmt: skip
    tolerance: Annotated[
        float,
        Meta(
            ge=0, le=1e9,
            description="numbers agree that differ by so much, or by this part of the stable one",
        ),
    ] = 1e-3  # fmt: skip


class AbConfig(Section, frozen=True, kw_only=True):
    """Several releases side by side, for as long as it is written; nothing ends it by itself."""

    weights: Annotated[
        dict[Figure, Annotated[int, Meta(ge=0, le=10**6)]],
        Meta(description="release: its share, e.g. {3: 70, 4: 30}"),
    ] = msgspec.field()
    key: Annotated[KeyName | None, Meta(description="as of a canary")] = None


class GuardConfig(Section, frozen=True, kw_only=True):
    """What a canary is held to; beyond one of these it is rolled back, by itself and for good."""

    window: Annotated[
        Duration, Meta(description="time under traffic after which a good canary is promoted")
    ] = Duration(600_000_000_000)
    minimum: Annotated[
        int, Meta(ge=1, le=10**9, description="answers of each kind before one is judged by them")
    ] = 500
    errors: Annotated[
        float, Meta(ge=0, le=100, description="percent of its answers, beyond those of the stable")
    ] = 1.0
    latency: Annotated[
        float, Meta(ge=1, le=1000, description="times the stable one's 99th percentile")
    ] = 2.0
    disagreement: Annotated[
        float, Meta(ge=0, le=100, description="percent of the answers that the shadow compared")
    ] = 1.0
    drift: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(
            description="how far the mean of an input or output may be from that of the bundle's "
            "samples, in standard deviations of these; default: not looked at"
        ),
    ] = None
    psi: Annotated[
        Annotated[float, Meta(gt=0, le=100)] | None,
        Meta(
            description="how far an input or output may be spread otherwise than in the bundle's "
            "samples, as population stability index; 0.25 is much; default: not looked at"
        ),
    ] = None
    nan: Annotated[
        float,
        Meta(
            ge=0, le=100,
            description="percent of the elements of an input or output that are NaN or infinite; "
            "looked at with drift or psi",
        ),
    ] = 1.0  # fmt: skip
    promote: Annotated[
        bool, Meta(description="false: a good one waits for edged rollout promote")
    ] = True


class RolloutConfig(Section, frozen=True, kw_only=True):
    """Which release answers whom, while a new one is tried."""

    stable: Annotated[ReleaseNumber, Meta(description="the release that serves all others")]
    canary: CanaryConfig | None = None
    shadow: ShadowConfig | None = None
    ab: AbConfig | None = None
    guard: GuardConfig = GuardConfig()

    @property
    def key(self) -> str | None:
        """What stays on one side."""
        part = self.canary or self.ab
        return part.key if part is not None else None

    @property
    def weights(self) -> dict[int, int]:
        """Release and share of those that requests are given to; shares of any sum."""
        if self.ab is not None:
            return {int(number): share for number, share in self.ab.weights.items()}
        if self.canary is not None:
            percent = self.canary.traffic_percent
            return {self.canary.release: percent, self.stable: 100 - percent}
        return {self.stable: 100}

    @property
    def numbers(self) -> frozenset[int]:
        """Every release that it speaks of."""
        found = {self.stable, *self.weights}
        found |= {self.shadow.release} if self.shadow is not None else set()
        return frozenset(found)
