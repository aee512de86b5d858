"""Configurations made concrete: every refusal has its place, and ``edged check`` says the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edged.config.problems import Problem
from edged.config.snapshot import Kept
from edged.errors import EdgedError
from edged.generation.candidate import Candidate, build_candidate, inspect_bundles, is_other_trust
from edged.generation.fallback import find_fallbacks
from edged.generation.trusted import about_serving, apply_trust, load_trust
from edged.manifest import Requires
from edged.store.floors import Floors
from edged.store.repository import Repository
from edged.store.signing import Signer
from edged.store.trust_document import parse_trust
from edged.store.trust_state import TrustState
from tests.bundles import make_keys
from tests.fakes.site import UNSIGNED, Site
from tests.models import double
from tests.trust import Ring


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def repository(site: Site) -> Iterator[Repository]:
    opened = site.repository()
    yield opened
    opened.close()


def both(site: Site, repository: Repository) -> tuple[Candidate, list[Problem]]:
    """What a reload says of the files, having seen that ``edged check`` says the same."""
    snapshot = site.load()
    candidate = build_candidate(snapshot, repository)
    manifests, problems = inspect_bundles(snapshot, None, site.state)
    assert [str(problem) for problem in problems] == [str(p) for p in candidate.problems]
    assert {
        name: {item.stored.manifest.release for item in items}
        for name, items in candidate.releases.items()
    } == {name: set(found) for name, found in manifests.items()}
    return candidate, problems


def located(problem: Problem, line: int, path: str) -> None:
    assert re.match(rf".*/edged\.yaml:{line}:\d+: {re.escape(path)}: ", str(problem)), problem


class TestGood:
    def test_releases_are_sorted_and_carry_their_configuration(
        self, site: Site, repository: Repository
    ) -> None:
        for release in (10, 2, 9):
            site.bundle("m", release)
        site.write("models:\n  m: {bundle: '*.edgb', serve: 2, aliases: {old: 9}}\n")
        candidate, problems = both(site, repository)
        assert not problems
        assert [item.stored.manifest.release for item in candidate.releases["m"]] == [2, 9, 10]
        assert {item.config.serve for item in candidate.desired()} == {2}
        assert not candidate.broken

    def test_the_same_bundle_twice_is_one_release(self, site: Site, repository: Repository) -> None:
        copy = site.directory / "copy.edgb"
        copy.write_bytes(site.bundle("m").read_bytes())
        site.write("models:\n  m: {bundle: [m-1.edgb, copy.edgb]}\n")
        candidate, problems = both(site, repository)
        assert not problems
        assert len(candidate.desired()) == 1

    def test_no_models_at_all(self, site: Site, repository: Repository) -> None:
        site.write("models: {}\n")
        candidate, problems = both(site, repository)
        assert (problems, candidate.desired()) == ([], [])

    def test_signed_by_enough_keys(self, site: Site, repository: Repository) -> None:
        pairs = [make_keys(site.directory, name) for name in ("one", "two")]
        keys = ", ".join(public.name for _, public in pairs)
        trust = f"trust: {{keys: [{keys}], threshold: 2}}\n"
        site.bundle("m", key=[Signer.from_file(private) for private, _ in pairs])
        site.write("models:\n  m: {bundle: m-1.edgb}\n", trust=trust)
        candidate, problems = both(site, repository)
        assert not problems
        assert candidate.releases["m"]


class TestSignatures:
    def test_an_unsigned_bundle_is_refused_where_it_is_named(
        self, site: Site, repository: Repository
    ) -> None:
        make_keys(site.directory, "ours")
        site.bundle("m")
        site.write("models:\n  m:\n    bundle: m-1.edgb\n", trust="trust: {keys: [ours.pub]}\n")
        candidate, (problem,) = both(site, repository)
        located(problem, 6, "models.m.bundle")
        assert "m-1.edgb: " in problem.message
        assert "sign" in problem.message
        assert candidate.broken == {"m": problem.message}
        assert candidate.releases == {"m": ()}

    @pytest.mark.parametrize(
        ("signers", "found"),
        [(["one"], 1), (["one", "theirs"], 1), (["theirs", "others"], 0), ([], 0)],
    )
    def test_fewer_trusted_signatures_than_asked_for(
        self, site: Site, repository: Repository, signers: list[str], found: int
    ) -> None:
        """Strangers do not count; neither does a key that is listed under two names."""
        pairs = {
            name: make_keys(site.directory, name) for name in ("one", "two", "theirs", "others")
        }
        (site.directory / "one-again.pub").write_bytes((site.directory / "one.pub").read_bytes())
        site.bundle("m", key=[Signer.from_file(pairs[name][0]) for name in signers])
        site.write(
            "models:\n  m: {bundle: m-1.edgb}\n",
            trust="trust: {keys: [one.pub, one-again.pub, two.pub], threshold: 2}\n",
        )
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert f"signed by {found} of 2 required trusted keys" in problem.message
        assert candidate.releases == {"m": ()}

    def test_one_key_under_two_names_is_not_two_keys(
        self, site: Site, repository: Repository
    ) -> None:
        private, _ = make_keys(site.directory, "one")
        (site.directory / "again.pub").write_bytes((site.directory / "one.pub").read_bytes())
        site.bundle("m", key=private)
        site.write(
            "models:\n  m: {bundle: m-1.edgb}\n",
            trust="trust: {keys: [one.pub, again.pub], threshold: 2}\n",
        )
        candidate, problems = both(site, repository)
        assert any("only 1 different keys are trusted" in one.message for one in problems)
        assert not candidate.releases.get("m")

    def test_a_stranger_s_signature_is_refused(self, site: Site, repository: Repository) -> None:
        make_keys(site.directory, "ours")
        private, _ = make_keys(site.directory, "theirs")
        site.bundle("m", key=private)
        site.bundle("good", key=site.directory / "ours.key")
        site.write(
            "models:\n  m: {bundle: m-1.edgb}\n  good: {bundle: good-1.edgb}\n",
            trust="trust: {keys: [ours.pub]}\n",
        )
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert [item.stored.manifest.name for item in candidate.desired()] == ["good"]

    @pytest.mark.parametrize("content", [None, "not a key"])
    @pytest.mark.hostile("R30 an empty or missing policy denies")
    def test_a_key_that_cannot_be_read_breaks_every_model(
        self, site: Site, repository: Repository, content: str | None
    ) -> None:
        if content is not None:
            (site.directory / "lost.pub").write_text(content)
        site.bundle("m")
        site.write("models:\n  m: {bundle: m-1.edgb}\n", trust="trust:\n  keys: [lost.pub]\n")
        candidate = build_candidate(site.load(), repository)
        assert [str(p) for p in inspect_bundles(site.load())[1]] == [
            str(problem) for problem in candidate.problems
        ]
        for problem in candidate.problems:
            assert re.search(r"edged\.yaml:4:\d+: trust\.keys", str(problem))
            assert "lost.pub" in problem.message
        assert len(candidate.problems) == 1, candidate.problems
        assert list(candidate.broken) == ["m"]
        with pytest.raises(EdgedError):
            load_trust(site.load())


class TestBundles:
    def test_another_model_s_name(self, site: Site, repository: Repository) -> None:
        site.bundle("other")
        site.write("models:\n  m: {bundle: other-1.edgb}\n")
        _, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert 'holds model "other", not "m"' in problem.message
        assert "--name m" in problem.message

    def test_one_release_with_two_contents(self, site: Site, repository: Repository) -> None:
        site.bundle("m")
        site.bundle("m", 1, double(factor=7)).rename(site.directory / "n.edgb")
        site.bundle("m")
        site.write("models:\n  m: {bundle: [m-1.edgb, n.edgb]}\n")
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert "n.edgb: release 1 is in another bundle too, with other contents" in problem.message
        assert "m" in candidate.broken

    def test_releases_that_are_not_there(self, site: Site, repository: Repository) -> None:
        site.bundle("m")
        site.write(
            "models:\n  m:\n    bundle: m-1.edgb\n    serve: 4\n    aliases:\n      live: 3\n"
        )
        _, problems = both(site, repository)
        assert {p.path: p.line for p in problems} == {
            "models.m.serve": 7,
            "models.m.aliases.live": 9,
        }
        assert all("they hold: 1" in problem.message for problem in problems)

    def test_a_missing_bundle_is_one_problem(self, site: Site, repository: Repository) -> None:
        site.write("models:\n  m: {bundle: gone.edgb, serve: 1}\n")
        candidate, problems = both(site, repository)
        assert len(problems) == 1, problems
        located(problems[0], 5, "models.m.bundle")
        assert "gone.edgb" in problems[0].message
        assert "No such file" in candidate.broken["m"]

    def test_a_pattern_that_matches_nothing(self, site: Site, repository: Repository) -> None:
        site.write("models:\n  m: {bundle: 'in/*.edgb'}\n")
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert "no file matches" in problem.message
        assert "no file matches" in candidate.broken["m"]

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
    def test_a_file_that_is_no_bundle(
        self, site: Site, repository: Repository, content: bytes
    ) -> None:
        (site.directory / "bad.edgb").write_bytes(content)
        site.bundle("m")
        site.write("models:\n  m: {bundle: [m-1.edgb, bad.edgb]}\n")
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert problem.message.startswith("bad.edgb: ")
        assert len(candidate.desired()) == 1

    def test_a_directory_in_place_of_a_bundle(self, site: Site, repository: Repository) -> None:
        (site.directory / "m.edgb").mkdir()
        site.write("models:\n  m: {bundle: m.edgb}\n")
        _, problems = both(site, repository)
        assert len(problems) == 1, problems

    def test_a_bundle_for_a_newer_edged(self, site: Site, repository: Repository) -> None:
        site.bundle("m", requires=Requires(edged="99.0.0"))
        site.write("models:\n  m: {bundle: m-1.edgb}\n")
        _, (problem,) = both(site, repository)
        assert "needs edged 99.0.0" in problem.message

    def test_the_other_models_are_still_taken(self, site: Site, repository: Repository) -> None:
        site.bundle("a")
        site.bundle("b")
        site.write("models:\n  a: {bundle: a-1.edgb}\n  b: {bundle: a-1.edgb}\n", trust=UNSIGNED)
        candidate, (problem,) = both(site, repository)
        located(problem, 6, "models.b.bundle")
        assert list(candidate.broken) == ["b"]
        assert [item.key.model for item in candidate.desired()] == ["a"]


def test_a_damaged_member_is_found_by_the_store(site: Site, repository: Repository) -> None:
    """What only reading every byte can find; ``edged check`` stays quick and leaves it to that."""
    path = site.bundle("m")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    site.write("models:\n  m: {bundle: m-1.edgb}\n")
    candidate = build_candidate(site.load(), repository)
    assert len(candidate.problems) == 1
    assert "m" in candidate.broken


class TestFloor:
    """Releases that one which proved good has said are not to be used any more."""

    @pytest.fixture(autouse=True)
    def three(self, site: Site, repository: Repository) -> None:
        for release in (1, 2, 3):
            site.bundle("m", release)
        repository.floors.rise({"m": 3})

    def test_what_lies_there_is_left_out(self, site: Site, repository: Repository) -> None:
        site.write("models:\n  m: {bundle: 'm-*.edgb'}\n")
        candidate = build_candidate(site.load(), repository)
        assert not candidate.problems
        assert [item.stored.manifest.release for item in candidate.desired()] == [3]

    @pytest.mark.parametrize("words", ["'m-*.edgb', serve: 2", "m-2.edgb", "['m-[12].edgb']"])
    def test_what_is_asked_for_is_refused(
        self, site: Site, repository: Repository, words: str
    ) -> None:
        site.write(f"models:\n  m: {{bundle: {words}}}\n")
        candidate = build_candidate(site.load(), repository)
        assert any("below the floor" in str(problem) for problem in candidate.problems)
        if "serve" not in words:
            assert "below the floor" in candidate.broken["m"]
        repository.floors.set("m", 0)
        assert not build_candidate(site.load(), repository).problems

    def test_also_of_a_generation_that_comes_back(self, site: Site, repository: Repository) -> None:
        site.write("models:\n  m: {bundle: m-2.edgb}\n")
        repository.floors.set("m", 0)
        digest = build_candidate(site.load(), repository).desired()[0].digest
        back = replace(site.load(), kept=Kept(1, "x", {"m": (digest,)}))
        assert [one.digest for one in build_candidate(back, repository).desired()] == [digest]
        repository.floors.set("m", 3)
        candidate = build_candidate(back, repository)
        assert not candidate.desired()
        assert "below the floor" in candidate.broken["m"]

    def test_also_a_bundle_that_was_taken_before(self, site: Site, repository: Repository) -> None:
        site.write("models:\n  m: {bundle: m-2.edgb}\n")
        repository.floors.set("m", 0)
        for _ in range(2):
            assert not build_candidate(site.load(), repository).problems
        repository.floors.set("m", 3)
        assert "below the floor" in build_candidate(site.load(), repository).broken["m"]


class TestRetiredKeys:
    """What a key signed that another trust document took away."""

    @pytest.fixture(autouse=True)
    def two(self, site: Site) -> Ring:
        ring = Ring(site.directory)
        site.bundle("m", 1, key=[ring["a"]])
        site.bundle("m", 2, key=[ring["b"]])
        (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
        return ring

    def write(self, site: Site, words: str) -> None:
        site.write(f"models:\n  m: {{bundle: {words}}}\n", trust="trust: {root: site.trust}\n")

    def retire(self, site: Site, ring: Ring, **more: Any) -> None:
        document = ring.document(2, release="b", **more)
        TrustState(site.state).apply(parse_trust(ring.signed(document)))

    def test_is_refused(self, site: Site, repository: Repository, two: Ring) -> None:
        self.write(site, "m-1.edgb")
        before = build_candidate(site.load(), repository)
        assert not before.problems
        assert not is_other_trust(before, repository)
        self.retire(site, two)
        assert is_other_trust(before, repository)
        candidate, (problem,) = both(site, repository)
        located(problem, 5, "models.m.bundle")
        assert "before version 2 of the trust document" in problem.message
        assert not candidate.desired()

    def test_what_serves_goes_on_and_is_told(
        self, site: Site, repository: Repository, two: Ring
    ) -> None:
        self.write(site, "m-1.edgb")
        (one,) = build_candidate(site.load(), repository).desired()
        repository.activate("m", one.digest)
        self.retire(site, two)
        candidate, problems = both(site, repository)
        assert not problems
        assert [item.digest for item in candidate.desired()] == [one.digest]
        assert "release 1 is signed by keys that were enough before" in candidate.retired["m"]
        back = replace(site.load(), kept=Kept(1, "x", {"m": (one.digest,)}))
        assert build_candidate(back, repository).retired
        # Another one takes its place, and it is not wanted any more.
        self.write(site, "'m-*.edgb', serve: 1")
        assert build_candidate(site.load(), repository).retired
        self.write(site, "'m-*.edgb'")
        candidate = build_candidate(site.load(), repository)
        assert not candidate.retired
        (_, two_) = candidate.desired()
        repository.activate("m", two_.digest)
        candidate, problems = both(site, repository)
        assert not problems
        assert [item.digest for item in candidate.desired()] == [two_.digest]
        assert not candidate.retired

    def test_not_what_a_revoked_key_signed(
        self, site: Site, repository: Repository, two: Ring
    ) -> None:
        self.write(site, "m-1.edgb")
        (one,) = build_candidate(site.load(), repository).desired()
        repository.activate("m", one.digest)
        self.retire(site, two, revoked=(two["a"].key_id,))
        candidate, (problem,) = both(site, repository)
        assert "signed by 0 of 1 required trusted keys" in problem.message
        assert not candidate.desired()

    @pytest.mark.parametrize("is_noted", [True, False], ids=["noted", "configured"])
    def test_nor_where_it_is_lost_that_it_was_revoked(
        self, site: Site, repository: Repository, two: Ring, *, is_noted: bool
    ) -> None:
        """The slot names it until another takes its place; both copies of the document may go."""
        self.write(site, "m-1.edgb")
        (one,) = build_candidate(site.load(), repository).desired()
        repository.activate("m", one.digest)
        gone = (two["a"].key_id,)
        self.retire(site, two, revoked=gone)
        if not is_noted:
            (site.state / "written" / "trust").write_bytes(b"\xff")
            document = two.document(2, release="b", revoked=gone)
            (site.directory / "site.trust").write_bytes(two.signed(document))
        for copy in TrustState(site.state).copies:
            copy.unlink()
        candidate, (problem,) = both(site, repository)
        assert "signed only by keys that were revoked" in problem.message
        assert "edged trust apply --anew FILE" in problem.message
        assert not candidate.desired()
        # Signed by another key as well, as bundles are before a key is retired, it goes on.
        site.bundle("m", 1, key=[two["a"], two["b"]])
        assert build_candidate(site.load(), repository).retired

    def test_nor_one_that_takes_the_place_of_a_file_that_was_looked_at(
        self, site: Site, repository: Repository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A retired key's release lets go on what serves: that very one, not what lies there now."""
        ring = Ring(site.directory)
        (site.directory / "site.trust").write_bytes(ring.signed(ring.document(release="a c")))
        for number, key in ((1, "c"), (2, "a")):
            site.bundle("m", number, key=[ring[key]])
        self.write(site, "m-1.edgb")
        (one,) = build_candidate(site.load(), repository).desired()
        repository.activate("m", one.digest)
        self.retire(site, ring, revoked=(ring["c"].key_id,))
        real = repository.import_bundle

        def exchanged(path: Path, *words: Any, **more: Any) -> Any:
            try:
                return real(path, *words, **more)
            finally:
                (site.directory / "m-1.edgb").replace(path)

        monkeypatch.setattr(repository, "import_bundle", exchanged)
        self.write(site, "m-2.edgb")
        candidate = build_candidate(site.load(), repository)
        assert candidate.problems
        assert not candidate.desired()

    def test_what_comes_back_is_no_file_that_is_another_by_now(
        self, site: Site, repository: Repository, two: Ring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(site, "m-1.edgb")
        assert two
        back = replace(site.load(), kept=Kept(1, "x", {"m": ("a" * 64,)}))
        file = site.directory / "m-1.edgb"
        monkeypatch.setattr("edged.generation.candidate.same_file", lambda *_: file)
        candidate = build_candidate(back, repository)
        assert "was exchanged" in str(candidate.problems[0])
        assert not candidate.desired()


class TestLost:
    """What keeps old releases or keys out is damaged: what serves goes on, nothing new is taken."""

    @pytest.fixture
    def ring(self, site: Site, repository: Repository) -> Ring:
        """Releases 1 to 3, of which 2 serves, under a trust document."""
        ring = Ring(site.directory)
        (site.directory / "site.trust").write_bytes(ring.signed(ring.document()))
        for number in (1, 2, 3):
            site.bundle("m", number, key=[ring["a"]])
        self.write(site, "'m-[12].edgb'")
        repository.activate("m", build_candidate(site.load(), repository).desired()[-1].digest)
        repository.floors.rise({"m": 1})
        return ring

    def write(self, site: Site, words: str) -> None:
        site.write(f"models:\n  m: {{bundle: {words}}}\n", trust="trust: {root: site.trust}\n")

    def damage(self, site: Site, what: str) -> None:
        for name in (f"{what}.json", f"{what}-2.json"):
            (site.state / name).write_bytes(b"")

    @pytest.mark.usefixtures("ring")
    @pytest.mark.parametrize("what", ["floor", "trust"])
    def test_what_serves_goes_on_and_nothing_else(
        self, site: Site, repository: Repository, what: str
    ) -> None:
        self.damage(site, what)
        candidate, problems = both(site, repository)
        assert not problems
        assert [one.stored.manifest.release for one in candidate.desired()] == [2]
        assert bool(candidate.retired) == (what == "trust")
        for words in ("m-1.edgb", "m-3.edgb", "'m-*.edgb', serve: 3"):
            self.write(site, words)
            candidate, problems = both(site, repository)
            assert any("are damaged" in one.message for one in problems), words
            assert [one.stored.manifest.release for one in candidate.desired()] in ([], [2])

    @pytest.mark.usefixtures("ring")
    @pytest.mark.parametrize("what", ["floor", "trust"])
    def test_nothing_new_is_believed_to_be_there_from_before(
        self, site: Site, repository: Repository, what: str
    ) -> None:
        self.damage(site, what)
        self.write(site, "'m-*.edgb'")
        candidate = build_candidate(site.load(), repository)
        assert any("are damaged" in one.message for one in candidate.problems)

    def test_until_an_operator_has_said(
        self, site: Site, repository: Repository, ring: Ring
    ) -> None:
        self.damage(site, "floor")
        self.damage(site, "trust")
        self.write(site, "'m-*.edgb'")
        Floors(site.state).set_by_serving()
        new = site.directory / "new.trust"
        new.write_bytes(ring.signed(ring.document(4, release="a b")))
        before = build_candidate(site.load(), repository)
        apply_trust(site.load(), new, site.state, anew=True)
        assert is_other_trust(before, repository)
        candidate, problems = both(site, repository)
        assert not problems
        assert [one.stored.manifest.release for one in candidate.desired()] == [2, 3]

    @pytest.mark.parametrize("revoked", [False, True])
    def test_what_serves_by_keys_that_were_forgotten(
        self, site: Site, repository: Repository, ring: Ring, *, revoked: bool
    ) -> None:
        """Only a lost document trusted them: it goes on all the same, over the next ones too."""

        def go_by(version: int, *, anew: bool = False, **more: Any) -> list[int]:
            file = site.directory / "new.trust"
            file.write_bytes(ring.signed(ring.document(version, release="c", **more)))
            apply_trust(site.load(), file, site.state, anew=anew)
            candidate = build_candidate(site.load(), repository)
            return [one.stored.manifest.release for one in candidate.desired()]

        gone = (ring["b"].key_id,)
        TrustState(site.state).apply(parse_trust(ring.signed(ring.document(2, release="b"))))
        site.bundle("m", 4, key=[ring["b"]])
        self.write(site, "m-4.edgb")
        (one,) = build_candidate(site.load(), repository).desired()
        repository.activate("m", one.digest)
        self.damage(site, "trust")
        if revoked:
            assert go_by(3, anew=True, revoked=gone) == []
            (said,) = about_serving(load_trust(site.load(), site.state), site.state)
            assert said.startswith("release 4 of m serves until the next restart and no longer: ")
            return
        assert go_by(3, anew=True) == [4]
        (said,) = about_serving(load_trust(site.load(), site.state), site.state)
        assert said.startswith("release 4 of m serves on, although no key of now signed it")
        assert go_by(4) == [4]
        self.write(site, "m-3.edgb")
        assert go_by(5) == [], "what does not serve is not spared"
        self.write(site, "m-4.edgb")
        assert go_by(6, revoked=gone) == []

    @pytest.mark.usefixtures("ring")
    def test_no_release_of_before_stands_in(self, site: Site, repository: Repository) -> None:
        """It may be signed by a key that was revoked; the one that serves was not let go for it."""
        previous = repository.current("m")
        assert previous is not None
        self.write(site, "m-3.edgb")
        repository.activate("m", build_candidate(site.load(), repository).desired()[0].digest)
        current = repository.current("m")
        self.write(site, "gone.edgb")
        candidate = build_candidate(site.load(), repository)
        found = find_fallbacks(candidate, ["m"], repository)
        assert found["m"].digest == current
        shutil.rmtree(site.state / "store" / str(current))
        assert find_fallbacks(candidate, ["m"], repository)["m"].digest == previous
        self.damage(site, "trust")
        assert not find_fallbacks(candidate, ["m"], repository)
