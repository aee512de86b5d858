"""What a device keeps of trust: it only rises, and no cut or damage takes it back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.errors import ApplyError, SignatureError
from edged.store.floors import Floors
from edged.store.signing import sign_manifest
from edged.store.trust_document import TrustError, parse_trust
from edged.store.trust_state import Trusted, TrustLostError, TrustState
from edged.store.trust_store import RetiredKeyError
from tests.trust import Ring

MANIFEST = b"{}"
COPIES = ("trust.json", "trust-2.json")
STEPS = [f"{step}.{name}" for name in COPIES for step in ("write", "renamed", "wrote", "trust")]
APPLY = """
import sys; from pathlib import Path
from edged.store.trust_document import parse_trust; from edged.store.trust_state import TrustState
TrustState(Path(sys.argv[1])).apply(parse_trust(Path(sys.argv[2]).read_bytes()))
"""


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    return Ring(tmp_path_factory.mktemp("keys"))


def version(state: Path) -> int:
    kept = TrustState(state).read()
    return 0 if kept is None else kept.document.version


def test_from_the_configured_one_on_it_only_rises(tmp_path: Path, ring: Ring) -> None:
    state = TrustState(tmp_path)
    first, second = (parse_trust(ring.signed(ring.document(n))) for n in (1, 2))
    assert state.read() is None
    state.adopt(first)
    assert state.read() == Trusted(first)
    assert state.apply(second)
    assert not state.apply(second)
    assert version(tmp_path) == 2
    for _ in range(2):
        with pytest.raises(TrustError, match="goes by version 2 already"):
            state.apply(first)
    state.adopt(first)
    assert version(tmp_path) == 2
    assert state.forget()
    assert not state.forget()
    assert version(tmp_path) == 0


def test_both_gone_it_is_not_the_configured_one_that_counts(tmp_path: Path, ring: Ring) -> None:
    """An older one would trust keys that were revoked."""
    state, first = TrustState(tmp_path), parse_trust(ring.signed(ring.document()))
    third = parse_trust(ring.signed(ring.document(3)))
    state.apply(third, first)
    for name in COPIES:
        (tmp_path / name).unlink()
    for ask in (state.read, lambda: state.adopt(first), lambda: state.apply(third, first)):
        with pytest.raises(TrustLostError, match=r"are gone.*edged trust apply --anew FILE"):
            ask()
    assert state.apply(third, first, anew=True)
    assert version(tmp_path) == 3


def test_that_there_is_one_is_noted_also_where_it_stays(tmp_path: Path, ring: Ring) -> None:
    state, first = TrustState(tmp_path), parse_trust(ring.signed(ring.document()))
    state.adopt(first)
    (tmp_path / "written/trust").unlink()
    state.adopt(first)
    assert (tmp_path / "written/trust").exists()


def test_the_configured_one_counts_while_none_is_kept(tmp_path: Path, ring: Ring) -> None:
    first = parse_trust(ring.signed(ring.document(3)))
    stranger = parse_trust(ring.signed(ring.document(9, "n1 n2"), "n1 n2"))
    state = TrustState(tmp_path)
    with pytest.raises(TrustError, match="root keys of version 3"):
        state.apply(stranger, first)
    assert not state.apply(first, first)
    assert version(tmp_path) == 3


def test_the_first_one_does_not_come_back_while_files_cannot_be_opened(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = TrustState(tmp_path)
    first, second = (parse_trust(ring.signed(ring.document(n))) for n in (1, 2))
    state.adopt(first)
    state.apply(second)
    real, left = os.open, [4]

    def short(path: os.PathLike[str], *words: int, **more: int) -> int:
        if left[0] and Path(path).name in COPIES:
            left[0] -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *words, **more)

    monkeypatch.setattr(os, "open", short)
    with pytest.raises(ApplyError, match="Too many open files"):
        state.adopt(first)
    left[0] = 0
    assert version(tmp_path) == 2


def test_its_floors_rise(tmp_path: Path, ring: Ring) -> None:
    Floors(tmp_path).set("high", 9)
    document = ring.document(1, floors={"m": 4, "high": 2})
    TrustState(tmp_path).apply(parse_trust(ring.signed(document)))
    assert Floors(tmp_path).all() == {"m": 4, "high": 9}


class TestWhoWasTrusted:
    @pytest.fixture
    def state(self, tmp_path: Path, ring: Ring) -> TrustState:
        state = TrustState(tmp_path)
        state.apply(parse_trust(ring.signed(ring.document(1, release="a"))))
        return state

    def verify(self, state: TrustState, ring: Ring, *names: str) -> tuple[str, ...]:
        kept = state.read()
        assert kept is not None
        signatures = sign_manifest(MANIFEST, [ring[name] for name in names])
        return kept.store().verify(MANIFEST, signatures)

    def test_is_told_from_a_stranger(self, state: TrustState, ring: Ring) -> None:
        assert self.verify(state, ring, "a") == (ring["a"].key_id,)
        state.apply(parse_trust(ring.signed(ring.document(2, release="b"))))
        assert self.verify(state, ring, "b")
        assert self.verify(state, ring, "a", "b")
        with pytest.raises(RetiredKeyError, match="before version 2 of the trust document"):
            self.verify(state, ring, "a")
        with pytest.raises(SignatureError, match="signed by 0 of 1") as caught:
            self.verify(state, ring, "stranger")
        assert not isinstance(caught.value, RetiredKeyError)

    def test_is_a_stranger_once_revoked(self, state: TrustState, ring: Ring) -> None:
        document = ring.document(2, release="b", revoked=(ring["a"].key_id,))
        state.apply(parse_trust(ring.signed(document)))
        with pytest.raises(SignatureError) as caught:
            self.verify(state, ring, "a")
        assert not isinstance(caught.value, RetiredKeyError)
        state.apply(parse_trust(ring.signed(ring.document(3, release="b"))))
        with pytest.raises(SignatureError) as caught:
            self.verify(state, ring, "a")
        assert not isinstance(caught.value, RetiredKeyError)

    def test_comes_back_when_listed_again(self, state: TrustState, ring: Ring) -> None:
        state.apply(parse_trust(ring.signed(ring.document(2, release="b"))))
        state.apply(parse_trust(ring.signed(ring.document(3, release="a"))))
        assert self.verify(state, ring, "a")
        with pytest.raises(RetiredKeyError):
            self.verify(state, ring, "b")

    def test_is_forgotten_after_some_rotations(self, state: TrustState, ring: Ring) -> None:
        for number in range(2, 20):
            state.apply(parse_trust(ring.signed(ring.document(number, release=f"k{number}"))))
        kept = state.read()
        assert kept is not None
        assert len(kept.former) == 8
        with pytest.raises(RetiredKeyError):
            self.verify(state, ring, "k18")
        with pytest.raises(SignatureError) as caught:
            self.verify(state, ring, "a")
        assert not isinstance(caught.value, RetiredKeyError)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 100, None])
def test_a_damaged_copy_lowers_nothing(
    tmp_path: Path, ring: Ring, name: str, data: bytes | None
) -> None:
    state = TrustState(tmp_path)
    state.apply(parse_trust(ring.signed(ring.document(1))))
    state.apply(parse_trust(ring.signed(ring.document(2))))
    if data is None:
        whole = (tmp_path / name).read_bytes()
        data = whole.replace(b'\\"version\\":2', b'\\"version\\":1')
        assert data != whole
    (tmp_path / name).write_bytes(data)
    assert version(tmp_path) == 2


@pytest.mark.parametrize("damage", [(b"", b"{}"), (None, b"x"), (b"x", None)])
def test_damaged_in_both_copies_it_is_lost_and_no_older_one_counts(
    tmp_path: Path, ring: Ring, damage: tuple[bytes | None, ...]
) -> None:
    first, second, third = (parse_trust(ring.signed(ring.document(n))) for n in (1, 2, 3))
    state = TrustState(tmp_path)
    state.apply(second, first)
    for name, data in zip(COPIES, damage, strict=True):
        (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    for ask in (state.read, lambda: state.adopt(first), lambda: state.apply(third, first)):
        with pytest.raises(TrustLostError, match="edged trust apply --anew FILE"):
            ask()
    assert state.apply(third, first, anew=True)
    assert version(tmp_path) == 3
    with pytest.raises(TrustError, match="versions only rise"):
        state.apply(second, first, anew=True)


def test_a_document_that_does_not_follow_the_configured_one_is_none_to_begin_anew_with(
    tmp_path: Path, ring: Ring
) -> None:
    first = parse_trust(ring.signed(ring.document(1)))
    other = parse_trust(ring.signed(ring.document(5, "n1 n2", "b"), "n1 n2"))
    state = TrustState(tmp_path)
    state.apply(first)
    for name in COPIES:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(TrustError, match="of the root keys of version 1"):
        state.apply(other, first, anew=True)
    assert state.forget()
    assert state.read() is None


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(tmp_path: Path, ring: Ring, step: str) -> None:
    """The old one or the new one, and after another try the new one."""
    state, file = tmp_path / "state", tmp_path / "new.trust"
    state.mkdir()
    TrustState(state).apply(parse_trust(ring.signed(ring.document(1))))
    file.write_bytes(ring.signed(ring.document(2)))
    command = [sys.executable, "-c", APPLY, str(state), str(file)]
    done = subprocess.run(command, env={**os.environ, "EDGED_FAULT_AT": step}, check=False)
    assert done.returncode == 137
    assert version(state) == (1 if step == "write.trust.json" else 2)
    TrustState(state).apply(parse_trust(file.read_bytes()))
    assert version(state) == 2
    assert all((state / name).read_bytes() for name in COPIES)
