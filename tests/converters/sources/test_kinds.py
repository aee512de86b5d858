"""The table of kinds, held against what it names."""

import re
from collections import Counter

import pytest

from converters.sources.kinds import ADVICE, BY_NAME, KINDS


def test_names_and_endings_belong_to_one_kind():
    assert len(BY_NAME) == len(KINDS)
    counted = Counter(suffix for kind in KINDS for suffix in kind.suffixes)
    assert not [suffix for suffix, count in counted.items() if count > 1]
    assert not set(counted).intersection(ADVICE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_has_its_file_and_its_extra(root, kind):
    assert (root / "converters" / "sources" / f"{kind.name}.py").is_file()
    extra = re.fullmatch(r"edged\[([a-z-]+)\]", kind.extra)[1]
    assert f"\n{extra} = [" in (root / "pyproject.toml").read_text()
