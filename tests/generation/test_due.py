"""When the same files come to something else; trust that was narrowed: ``test_trust_back.py``."""

from __future__ import annotations

from pathlib import Path

from edged.generation.candidate import Candidate, build_candidate
from edged.generation.due import is_due
from edged.generation.trusted import apply_trust
from edged.store.repository import Repository
from tests.fakes.site import Site
from tests.generation.test_reload import booted, run
from tests.trust import Ring

MODEL = "models:\n  m: {bundle: m-1.edgb}\n"


def test_a_bundle_that_was_signed_anew_after_its_key_was_retired(tmp_path: Path) -> None:
    """Its contents are the same, so no digest tells; the status had said for ever what to do."""
    site, ring = Site(tmp_path), Ring(tmp_path)
    (tmp_path / "site.trust").write_bytes(ring.signed(ring.document()))
    (tmp_path / "new.trust").write_bytes(ring.signed(ring.document(2, release="b")))
    site.bundle("m", 1, key=[ring["a"]])
    site.write(MODEL, trust="trust: {root: site.trust}\n")

    def due(made: Candidate, repository: Repository) -> bool:
        return is_due(made, site.load(), repository)

    async def work() -> None:
        async with booted(site) as box:
            store = box.repository
            assert not due(box.reloader.candidate, store)
            apply_trust(site.load(), tmp_path / "new.trust", site.state)
            assert due(box.reloader.candidate, store)
            assert await box.reloader.reload()
            assert "m serves on, although release 1 is signed by keys" in box.degraded["trust"]
            assert not due(box.reloader.candidate, store), "it stays so, and is not built each time"
            generation = box.generation
            site.bundle("m", 1, key=[ring["b"]])
            assert await box.reloader.reload()
            assert (box.degraded, box.generation) == ({}, generation)
            assert build_candidate(site.load(), store).retired == {}

    run(work())
