"""One real daemon for all attacks: what one of them leaves behind would show in the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, running
from tests.models import double

BODY = (
    "trust: {require_signatures: false}\nreload: {settle: 20ms, poll: 300ms}\n"
    "models:\n  m: {bundle: m-1.edgb}\n"
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    folder = tmp_path_factory.mktemp("d")
    make_bundle(folder / "m-1.edgb", double(), name="m", release=1)
    with running(folder, BODY) as process:
        yield process
        assert "Traceback" not in process.log.read_text()
