"""What is mapped, and what is refused before it could be."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edged.errors import InvalidRequestError
from edged.system import shm
from edged.system.shm import is_writable, make_memory, map_memory
from tests.fakes.descriptors import descriptors


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sealed(size: int, seals: int = fcntl.F_SEAL_SHRINK, flags: int = 0) -> int:
    descriptor = os.memfd_create("t", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


class TestMakeMemory:
    def test_is_shared_and_cannot_shrink(self):
        with opened(make_memory(8192)) as descriptor:
            one, other = map_memory(descriptor, 8192), map_memory(descriptor, 4096)
            one[:3] = b"abc"
            assert other[:3] == b"abc"
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, 100)
            assert not os.get_inheritable(descriptor)

    def test_what_fails_leaves_no_descriptor(self):
        before = descriptors()
        with pytest.raises(OSError):
            make_memory(-1)
        assert descriptors() <= before


class TestMapMemory:
    def test_lives_as_long_as_arrays_in_it(self):
        with opened(make_memory(4096)) as descriptor:
            array = np.frombuffer(map_memory(descriptor, 4096), np.uint8)
        assert array.sum() == 0
        array[0] = 5
        assert array.sum() == 5

    @pytest.mark.parametrize("seal", [fcntl.F_SEAL_WRITE, 0x0010], ids=["write", "future write"])
    def test_sealed_against_writing_is_read(self, seal: int):
        with opened(os.memfd_create("t", os.MFD_ALLOW_SEALING)) as descriptor:
            os.write(descriptor, b"abcd" * 1024)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | seal)
            mapped = map_memory(descriptor, 4096)
        assert mapped[:4] == b"abcd"
        assert not is_writable(mapped)

    def test_opened_for_reading_is_read(self):
        with opened(sealed(4096)) as mine, opened(os.open(f"/proc/self/fd/{mine}", 0)) as theirs:
            mapped = map_memory(theirs, 4096)
            assert not is_writable(mapped)
            os.pwrite(mine, b"new", 0)
            assert mapped[:3] == b"new"

    @pytest.mark.hostile("D6 memory without the seal", "R7 only sealed memory is mapped")
    @pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_GROW], ids=["none", "another one"])
    def test_without_the_seal_is_refused(self, seals: int):
        with (
            opened(sealed(4096, seals)) as descriptor,
            pytest.raises(InvalidRequestError, match="not sealed against shrinking"),
        ):
            map_memory(descriptor, 4096)

    def test_shorter_than_named_is_refused(self):
        with (
            opened(sealed(4096)) as descriptor,
            pytest.raises(InvalidRequestError, match="4096 bytes, fewer than the 8192"),
        ):
            map_memory(descriptor, 8192)

    @pytest.mark.hostile("A11 a passed descriptor that is no sealed memory")
    def test_what_is_no_memory_is_refused(self, tmp_path: Path):
        (tmp_path / "file").write_bytes(bytes(8192))
        shared = Path("/dev/shm") / f"edged-test-{os.getpid()}"
        one, other = socket.socketpair()
        reading, writing = os.pipe()
        found = [reading, writing, one.detach(), other.detach()]
        found.append(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
        found.append(os.open("/dev/zero", os.O_RDWR))
        found.append(os.open(tmp_path / "file", os.O_RDWR))
        found.append(os.open(tmp_path / "file", os.O_PATH))
        if shared.parent.is_dir():
            found.append(os.open(shared, os.O_RDWR | os.O_CREAT, 0o600))
            os.ftruncate(found[-1], 8192)
            shared.unlink()
        for descriptor in found:
            with (
                opened(descriptor),
                pytest.raises(InvalidRequestError, match=r"no memory|not sealed"),
            ):
                map_memory(descriptor, 4096)

    def test_huge_pages_are_refused(self):
        try:
            descriptor = sealed(2 << 20, flags=os.MFD_HUGETLB)
        except OSError:
            pytest.skip("this kernel has none")
        with opened(descriptor), pytest.raises(InvalidRequestError, match="no memory of memfd"):
            map_memory(descriptor, 4096)

    def test_more_than_there_is_room_for_is_refused(self):
        size = 1 << 60
        with (
            opened(sealed(size)) as descriptor,
            pytest.raises(InvalidRequestError, match="cannot be mapped"),
        ):
            map_memory(descriptor, size)

    @pytest.mark.hostile("D3 a region that is cut off while it is read")
    def test_no_bus_error_ever(self):
        """The detector works: what is mapped in spite of the rule kills; what is taken does not."""
        script = textwrap.dedent("""
            import mmap, os, sys
            sys.path.insert(0, sys.argv[1])
            from edged.system import shm
            fd = os.memfd_create("t", os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, 1 << 20)
            try:
                memory = shm.map_memory(fd, 1 << 20)
            except Exception:
                if sys.argv[2] == "rule":
                    sys.exit(7)
                memory = mmap.mmap(fd, 1 << 20)
            os.ftruncate(fd, 0)
            print(sum(memory[:]))
        """)
        root = str(Path(shm.__file__).parent.parent.parent)
        ends = [
            os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script, root, how])
            for how in ("rule", "none")
        ]
        assert ends == [7, -7]  # SIGBUS


class TestWhyNot:
    @pytest.mark.parametrize(
        ("value", "is_refused"), [("0\n", False), ("1\n", False), ("2\n", True)]
    )
    def test_where_memory_is_never_promised(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, is_refused: bool
    ):
        (tmp_path / "overcommit").write_text(value)
        monkeypatch.setattr(shm, "_OVERCOMMIT", tmp_path / "overcommit")
        shm.why_not.cache_clear()
        try:
            assert bool(shm.why_not()) == is_refused
        finally:
            shm.why_not.cache_clear()

    def test_where_nobody_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(shm, "_OVERCOMMIT", tmp_path / "none")
        shm.why_not.cache_clear()
        assert not shm.why_not()
        shm.why_not.cache_clear()


@pytest.mark.hostile("R1 memory of ours is anonymous and never named")
def test_mapping_keeps_no_name():
    with opened(make_memory(4096, "edged-t")) as descriptor:
        assert isinstance(map_memory(descriptor, 4096), mmap.mmap)
        assert "(deleted)" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
