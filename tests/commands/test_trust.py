"""``edged trust``: what an operator types and reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.store.floors import Floors
from tests.bundles import make_keys
from tests.fakes.site import Site
from tests.trust import Ring


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    site = Site(tmp_path).write("models: {}\n", trust="trust: {root: site.trust}\n")
    site.state.mkdir()
    return site


def edged(site: Site, *words: object) -> int:
    return main(["trust", *map(str, words), "--config", str(site.config)])


def test_a_rotation(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ring, new = Ring(site.directory), site.directory / "new.trust"
    (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
    assert edged(site, "show") == 0
    assert capsys.readouterr().out.startswith("trust version 1, issued 2026-11-01\nroot: 2 of 3\n")
    document = ring.document(2, "n1 n2", "b", floors={"m": 3}, expires="2099-12-31")
    new.write_bytes(ring.signed(document, "n1 n2"))
    assert edged(site, "apply", new) == 78
    assert "by 0 of 2 required of the root keys of version 1" in capsys.readouterr().err
    assert not (site.state / "trust.json").exists()
    new.write_bytes(ring.signed(document, "r1 r2 n1 n2"))
    assert edged(site, "apply", new) == 0
    assert "trust version 2 is kept, and installs go by it" in capsys.readouterr().out
    assert Floors(site.state).all() == {"m": 3}
    assert edged(site, "show", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["version"], said["expires"], said["floors"]) == (2, "2099-12-31", {"m": 3})
    assert said["release"] == {"threshold": 1, "keys": [ring["b"].key_id]}
    assert edged(site, "show") == 0
    text = capsys.readouterr().out
    assert "m: no release before 3 is accepted" in text
    assert "keys of 1 document before it are remembered" in text
    assert edged(site, "apply", site.directory / "site.trust") == 78
    assert "goes by version 2 already; versions only rise" in capsys.readouterr().err
    for said_ in ("forgotten", "none was kept"):
        assert edged(site, "forget") == 0  # also what is not there, and nothing serves
        assert said_ in capsys.readouterr().out


def test_what_was_lost(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ring, new = Ring(site.directory), site.directory / "new.trust"
    (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
    new.write_bytes(ring.signed(ring.document(3)))
    assert edged(site, "apply", new) == 0
    for name in ("trust.json", "trust-2.json"):
        (site.state / name).write_bytes(b"")
    assert (edged(site, "show"), edged(site, "apply", new)) == (78, 78)
    assert capsys.readouterr().err.count("edged trust apply --anew FILE") == 2
    assert edged(site, "apply", "--anew", new) == 0
    assert capsys.readouterr().out.endswith("trust version 3 is kept, and installs go by it\n")
    assert edged(site, "show") == 0


def test_keys_of_the_configuration(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    make_keys(site.directory, "ours")
    site.write("models: {}\n", trust="trust: {keys: [ours.pub]}\n")
    assert edged(site, "show") == 0
    assert capsys.readouterr().out.startswith("no trust document")


def test_a_state_directory_that_is_not_there(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = Ring(site.directory)
    (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
    site.state.rmdir()
    for words in (("apply", site.directory / "site.trust"), ("forget",)):
        assert edged(site, *words) == 78
        assert "; the daemon makes it at its first start" in capsys.readouterr().err
