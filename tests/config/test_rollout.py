"""The words of a rollout, and what follows from them."""

from __future__ import annotations

import msgspec

from edged.config.rollout import RolloutConfig


def section(**fields: object) -> RolloutConfig:
    return msgspec.convert({"stable": 3, **fields}, RolloutConfig)


def test_a_canary_has_the_beginning_of_the_line():
    config = section(canary={"release": 4, "trafficPercent": 10, "key": "device"})
    assert list(config.weights.items()) == [(4, 10), (3, 90)]
    assert config.key == "device"
    assert config.numbers == {3, 4}


def test_ab():
    config = section(ab={"weights": {"3": 70, "5": 30}, "key": "user"})
    assert config.weights == {3: 70, 5: 30}
    assert config.key == "user"


def test_a_shadow_alone_gives_all_to_the_stable():
    config = section(shadow={"release": 4})
    assert config.weights == {3: 100}
    assert config.key is None
    assert config.numbers == {3, 4}
