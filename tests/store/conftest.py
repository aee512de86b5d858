"""Keys and a trust store that every test of the store may use."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from edged.store.signing import Signer
from edged.store.trust_store import TrustStore
from tests.bundles import make_keys


class Keys(NamedTuple):
    """A signer and the trust in it."""

    signer: Signer
    trust: TrustStore
    private: Path
    public: Path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    private, public = make_keys(tmp_path_factory.mktemp("keys"))
    return Keys(Signer.from_file(private), TrustStore.from_files([public]), private, public)
