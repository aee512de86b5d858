"""``edged bundle gc`` in words, and without a daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.commands.collect import collect, render
from edged.errors import DisconnectedError


def test_words():
    going = [{"model": "m", "release": 3, "digest": "ab" * 32, "size": 1234}]
    document = {"going": going, "staying": 2, "staying_bytes": 99}
    said = render(document, dry_run=True)
    assert said.splitlines()[1].split() == ["m", "3", "abababababab", "1234"]
    assert said.endswith("1 releases (1234 bytes) would go, 2 (99 bytes) stay")
    none = render({**document, "going": []}, dry_run=False)
    assert none == "0 releases (0 bytes) are gone, 2 (99 bytes) stay"


def test_no_daemon(tmp_path: Path):
    with pytest.raises(DisconnectedError, match="for administrators"):
        collect(str(tmp_path / "no.sock"), dry_run=True)
