"""Memory by name: whose it may be, what is copied, and that nothing of it is kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.listen import SharedMemoryConfig
from edged.errors import DeniedError, EdgedError, InvalidRequestError, NotFoundError
from edged.protocol.oip_shared import Place, Region, decode_register
from edged.specs import Size
from edged.transports.named_memory import NamedMemory, OwnMemory
from tests.fakes.descriptors import descriptors

ME = os.getuid()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "shm"
    (made / "a").mkdir(parents=True)
    for place in (made, made / "a", tmp_path):
        (place / "m").write_bytes(bytes(range(100)))
    return made


@pytest.fixture
def all_(folder: Path) -> NamedMemory:
    made = NamedMemory(str(folder))
    made.allow(SharedMemoryConfig(regions=3, size=Size(150)))
    return made


@pytest.fixture
def own(all_: NamedMemory, folder: Path) -> Iterator[OwnMemory]:
    before = descriptors()
    made = all_.of(ME)
    assert made is not None
    yield made
    assert descriptors() <= before
    assert str(folder) not in Path("/proc/self/maps").read_text()


def refused(own: OwnMemory, key: str, size: int = 1, offset: int = 0) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        own.register(Region("r", key, offset, size))
    return caught.value.message


class TestRegister:
    @pytest.mark.parametrize("key", ["m", "/m"])
    def test_and_read_and_write(self, own: OwnMemory, folder: Path, key: str) -> None:
        own.register(Region("r", key, 10, 50))
        assert bytes(own.read(Place("r", 2, 3))) == bytes([12, 13, 14])
        own.write(Place("r", 4, 8), b"abc")
        assert (folder / "m").read_bytes()[12:19] == bytes([12, 13]) + b"abc" + bytes([17, 18])
        assert own.status(None) == own.status("r") == [Region("r", key, 10, 50)]
        own.unregister("r")
        own.unregister("r")
        assert own.status(None) == []

    @pytest.mark.hostile(
        "D12 a name of memory that is a path, a link, a folder, a pipe or somebody else's"
    )
    @pytest.mark.parametrize(
        "key", ["", "/", "..", ".", "/..", "../m", "a/m", "//m", "m\0", "x" * 256, "none", "\ud800"]
    )
    def test_what_is_no_name(self, own: OwnMemory, key: str) -> None:
        refused(own, key)

    def test_what_is_no_memory(self, own: OwnMemory, folder: Path) -> None:
        (folder / "link").symlink_to("m")
        (folder / "folder").mkdir()
        os.mkfifo(folder / "pipe")
        same = {refused(own, key).replace(key, "KEY") for key in ("link", "folder", "pipe", "none")}
        assert len(same) == 1  # nobody learns which of them are there

    @pytest.mark.hostile(
        "D12 a name of memory that is a path, a link, a folder, a pipe or somebody else's"
    )
    def test_somebody_else_s(self, all_: NamedMemory) -> None:
        other = all_.of(ME + 1)
        assert other is not None
        assert refused(other, "m").replace('"m"', '"none"') == refused(other, "none")

    def test_what_becomes_somebody_else_s_is_not_read(self, own: OwnMemory, folder: Path) -> None:
        if ME != 0:
            pytest.skip("takes root")
        own.register(Region("r", "m", 0, 10))
        os.chown(folder / "m", 1, -1)
        with pytest.raises(InvalidRequestError, match="no memory of yours"):
            own.read(Place("r", 0, 1))

    @pytest.mark.hostile("D2 an offset or a length that overflows")
    @pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (2**63 - 1, 2**63 - 1)])
    def test_beyond_the_memory(self, own: OwnMemory, offset: int, size: int) -> None:
        assert "go beyond" in refused(own, "m", size, offset)

    def test_the_same_name_twice(self, own: OwnMemory, folder: Path) -> None:
        own.register(Region("r", "m", 0, 10))
        assert "already in manager" in refused(own, "m")
        (folder / "m").unlink()
        (folder / "n").write_bytes(bytes(5))
        own.register(Region("r", "n", 0, 5))  # its client came again

    def test_each_user_has_its_own(self, all_: NamedMemory, own: OwnMemory) -> None:
        own.register(Region("r", "m", 0, 10))
        other = all_.of(ME + 1)
        assert other is not None
        assert other.status(None) == []
        other.unregister(None)
        with pytest.raises(NotFoundError, match="Unable to find shared memory region"):
            other.read(Place("r", 0, 1))
        assert len(own.status(None)) == 1

    def test_too_many(self, own: OwnMemory, folder: Path) -> None:
        (folder / "gone").write_bytes(b"a")
        for name, key in (("a", "m"), ("b", "gone"), ("c", "m")):
            own.register(Region(name, key, 0, 1))
        assert "3 regions" in refused(own, "m")
        (folder / "gone").unlink()
        own.register(Region("d", "m", 0, 1))
        assert [one.name for one in own.status(None)] == ["a", "c", "d"]

    @pytest.mark.hostile("D8 a sparse region of a TiB")
    def test_too_large(self, own: OwnMemory, folder: Path) -> None:
        os.truncate(folder / "m", 1 << 40)
        assert "one user may have" in refused(own, "m", 1 << 40)
        own.register(Region("a", "m", 0, 100))
        assert "one user may have" in refused(own, "m", 51)


class TestUse:
    @pytest.mark.parametrize(
        "place", [Place("r", 0, 11), Place("r", 10, 1), Place("r", 2**63, 2**63)]
    )
    def test_beyond_the_region(self, own: OwnMemory, place: Place) -> None:
        own.register(Region("r", "m", 0, 10))
        with pytest.raises(InvalidRequestError, match="has 10 bytes"):
            own.read(place)
        with pytest.raises(InvalidRequestError, match="has 10 bytes"):
            own.write(place, b"")

    def test_an_output_that_is_too_large(self, own: OwnMemory) -> None:
        own.register(Region("r", "m", 0, 10))
        with pytest.raises(InvalidRequestError, match="takes 5 bytes, 4 were given"):
            own.write(Place("r", 0, 4), b"abcde")

    @pytest.mark.hostile(
        "D13 memory with a name that is cut, replaced or removed after it was registered"
    )
    def test_memory_that_was_cut(self, own: OwnMemory, folder: Path) -> None:
        own.register(Region("r", "m", 0, 100))
        os.truncate(folder / "m", 40)
        assert len(own.read(Place("r", 0, 40))) == 40
        for place in (Place("r", 30, 20), Place("r", 50, 20)):
            with pytest.raises(InvalidRequestError, match="is shorter"):
                own.read(place)
            with pytest.raises(InvalidRequestError, match="is shorter"):
                own.write(place, bytes(20))
        assert (folder / "m").stat().st_size == 40

    @pytest.mark.hostile(
        "D13 memory with a name that is cut, replaced or removed after it was registered"
    )
    def test_memory_that_was_replaced(self, own: OwnMemory, folder: Path) -> None:
        own.register(Region("r", "m", 0, 100))
        (folder / "n").write_bytes(bytes(100))
        (folder / "n").rename(folder / "m")
        with pytest.raises(InvalidRequestError, match="was replaced"):
            own.read(Place("r", 0, 1))
        (folder / "m").unlink()
        with pytest.raises(InvalidRequestError, match="Unable to open"):
            own.write(Place("r", 0, 1), b"")

    def test_memory_that_cannot_be_written(
        self, own: OwnMemory, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "m").chmod(0o400)
        own.register(Region("r", "m", 0, 100))
        if ME == 0:  # root may write everything; the kernel's answer to others
            real = os.open

            def refuse(path: str, flags: int, *args: int, **more: int) -> int:
                if flags & (os.O_RDWR | os.O_WRONLY):
                    raise PermissionError(errno.EACCES, "Permission denied")
                return real(path, flags, *args, **more)

            monkeypatch.setattr(os, "open", refuse)
        assert len(own.read(Place("r", 0, 3))) == 3
        with pytest.raises(InvalidRequestError, match="may read and write"):
            own.write(Place("r", 0, 1), b"a")


class TestConfig:
    def test_off(self, all_: NamedMemory, own: OwnMemory) -> None:
        own.register(Region("r", "m", 0, 10))
        all_.allow(None)
        assert all_.of(ME) is None
        assert not all_.is_on
        for call in (
            lambda: own.register(Region("q", "m", 0, 1)),
            lambda: own.read(Place("r", 0, 1)),
            lambda: own.write(Place("r", 0, 1), b""),
        ):
            with pytest.raises(DeniedError, match="is off"):
                call()
        all_.allow(SharedMemoryConfig())
        assert own.status(None) == []

    def test_over_tcp(self, folder: Path) -> None:
        all_ = NamedMemory(str(folder))
        all_.allow(SharedMemoryConfig())
        own = all_.of(None)
        assert own is not None
        with pytest.raises(DeniedError, match="tcp_users"):
            own.register(Region("r", "m", 0, 1))
        all_.allow(SharedMemoryConfig(tcp_users=(str(ME),)))
        own.register(Region("r", "m", 0, 1))
        all_.allow(SharedMemoryConfig(tcp_users=(str(ME + 1), "nobody-has-this-name")))
        with pytest.raises(InvalidRequestError, match="no memory of yours"):
            own.read(Place("r", 0, 1))


@given(st.text(max_size=20), st.integers(-1, 1 << 65), st.integers(-1, 1 << 65))
def test_any_registration_is_read_or_refused(key: str, offset: int, size: int) -> None:
    all_ = NamedMemory("/proc/self/fdinfo")  # where no file is, whatever the name
    all_.allow(SharedMemoryConfig())
    own = all_.of(ME)
    assert own is not None
    with pytest.raises(EdgedError):
        own.register(Region("r", key, offset, size))


@given(st.binary(max_size=60))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        found = decode_register("r", body)
    except InvalidRequestError:
        return
    assert found.size >= 1
