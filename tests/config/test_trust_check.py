"""Keys and the trust document; ``cases/threshold.yaml`` and ``cases/trust_root.yaml`` have the rest."""

from __future__ import annotations

import pytest

from edged.config.schema import Config, ModelConfig, TrustConfig
from edged.config.trust_check import trust_problems

MODELS = {"m": ModelConfig(bundle="m.edgb")}


@pytest.mark.parametrize(
    ("trust", "paths"),
    [
        (TrustConfig(), ["trust.keys"]),
        (TrustConfig(require_signatures=False), []),
        (TrustConfig(keys=("a",)), []),
        (TrustConfig(keys=("a", "a")), ["trust.keys[1]"]),
        (TrustConfig(keys=("a",), threshold=2), ["trust.threshold"]),
        (TrustConfig(root="a"), []),
        (TrustConfig(root="a", keys=("b",), threshold=2), ["trust.keys", "trust.threshold"]),
    ],
)
def test_what_cannot_work(trust: TrustConfig, paths: list[str]) -> None:
    assert [path for path, _ in trust_problems(Config(trust=trust, models=MODELS))] == paths
