"""A signed bundle and the keys that it may be signed with."""

import pytest

from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def keys(tmp_path):
    """Three key pairs, as (private, public) paths."""
    return [generate_key(tmp_path / name) for name in ("one", "two", "three")]


@pytest.fixture
def bundle(tmp_path, keys):
    return make_bundle(tmp_path / "some.edgb", double(), key=keys[0][0])
