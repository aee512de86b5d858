"""What a change has to prove, as it is written."""

from __future__ import annotations

import pytest

from edged.config.reload import ConfirmConfig
from tests.config.conftest import Site


def test_fields(site: Site) -> None:
    site.write("reload: {confirm: {window: 1min, max_errors: 0.5}}\n")
    assert site.load().config.reload.confirm == ConfirmConfig(window=60 * 10**9, max_errors=0.5)
    site.write("reload: {confirm: {window: 0}}\n")
    assert site.load().config.reload.confirm.window == 0


@pytest.mark.parametrize(
    ("section", "field"),
    [("window: 2h", "window"), ("max_errors: 1.5", "max_errors"), ("windows: 1s", "windows")],
)
def test_refused(site: Site, section: str, field: str) -> None:
    site.write(f"reload: {{confirm: {{{section}}}}}\n")
    assert site.problem().path == f"reload.confirm.{field}"
