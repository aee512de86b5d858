"""What there is to have, and who has how much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edged.device.memory import Taken, available_bytes, forget_peak, hand_back, taken

MIB = 1 << 20
STATUS = "Name:\tedged\nVmHWM:\t  300 kB\nRssAnon:\t 100 kB\nRssFile:\t 50 kB\nThreads:\t5\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_process(tmp_path: Path):
    write(tmp_path, {"proc/self/status": STATUS, "proc/7/status": "Name:\tz\n"})
    assert taken(root=tmp_path) == Taken(100 << 10, 300 << 10, 50 << 10)
    assert taken(7, tmp_path) is None
    assert taken(8, tmp_path) is None


def meminfo(kilobytes: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: 9000 kB\nMemAvailable: {kilobytes} kB\n"}


@pytest.mark.parametrize(
    ("files", "kilobytes"),
    [
        pytest.param({}, 4096, id="no groups"),
        pytest.param({"proc/self/cgroup": "1:cpu:/x\n"}, 4096, id="version 1"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, 4096, id="top"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": str(MIB),
                "sys/fs/cgroup/a/memory.max": str(3 * MIB),
                "sys/fs/cgroup/a/memory.current": str(2 * MIB),
            },
            1024,
            id="the group above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.high": str(MIB),
                "sys/fs/cgroup/a/memory.current": str(2 * MIB),
            },
            0,
            id="over it already",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "9:cpu,memory:/a/b\n0::/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(9 * MIB),
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(3 * MIB),
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(2 * MIB),
            },
            1024,
            id="version 1: the group above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/docker/0123\n1:name=systemd:/docker/0123\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3 * MIB),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(MIB),
            },
            2048,
            id="version 1: in a container, which knows the host's name of its group",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(3 * MIB),
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": str(3 * MIB),
                "sys/fs/cgroup/memory/a/memory.stat": f"cache 9\ntotal_inactive_file {MIB}\n",
            },
            1024,
            id="version 1: files that nobody uses are no loss",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": str(3 * MIB),
                "sys/fs/cgroup/a/memory.current": str(3 * MIB),
                "sys/fs/cgroup/a/memory.stat": f"anon 1\ninactive_file {2 * MIB}\nfile 3\n",
            },
            2048,
            id="files that nobody uses are no loss",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../a\n", "sys/fs/a/memory.max": "1",
             "sys/fs/a/memory.current": "0"},
            4096,
            id="a group above the top of a namespace",
        ),
    ],
)  # fmt: skip
def test_what_there_is(tmp_path: Path, files: dict[str, str], kilobytes: int):
    assert available_bytes(write(tmp_path, {**meminfo(4096), **files})) == kilobytes << 10


def test_nothing_is_known(tmp_path: Path):
    assert available_bytes(tmp_path) is None


def test_this_machine():
    assert available_bytes() is not None
    program = """
from edged.device.memory import forget_peak, hand_back, taken
block = bytearray(64 << 20)
for at in range(0, len(block), 4096):
    block[at] = 1
full = taken()
del block
hand_back()
forget_peak()
after = taken()
print(full.private - after.private, full.peak - after.peak)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    given_back, peak = map(int, done.stdout.split())
    assert given_back > 60 << 20
    assert peak >= 0


def test_what_a_kernel_does_not_take_is_no_error(tmp_path: Path):
    forget_peak(tmp_path)
    hand_back()
