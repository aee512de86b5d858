"""What the throw-away process takes from itself; in children, for it cannot be given back.

The network is tested with the sandbox, whose process is the one that loses it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from converters.isolation import MAX_FILE_BYTES

ROOT = Path(__file__).resolve().parents[2]


def isolated(body, cpu_seconds=60):
    code = f"import resource, os\nfrom converters.isolation import isolate\nsaid = isolate({cpu_seconds})\n"
    return subprocess.run(
        [sys.executable, "-c", code + body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_no_core_file_no_endless_file_and_no_new_privileges():
    body = (
        "print(said)\n"
        "for what in ('CORE', 'CPU', 'FSIZE'):\n"
        "    print(resource.getrlimit(getattr(resource, 'RLIMIT_' + what))[0])\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.split('NoNewPrivs:')[1].split()[0])\n"
    )
    done = isolated(body)
    said, core, cpu, size, privileges = done.stdout.splitlines()
    assert said.startswith("own process")
    assert (core, cpu, privileges) == ("0", "60", "1")
    assert 0 < int(size) <= MAX_FILE_BYTES


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_the_kernel_ends_what_computes_too_long():
    done = isolated("while True: pass", cpu_seconds=1)
    assert done.returncode in (-24, -9)  # SIGXCPU; SIGKILL where the hard limit is the same


@pytest.mark.hostile("R21 foreign models run in a throw-away process")
def test_more_memory_than_the_machine_has_is_an_error_and_no_swapping():
    body = (
        "physical = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')\n"
        "try:\n    held = bytearray(2 * physical)\n"
        "except MemoryError:\n    print('refused')\n"
    )
    assert isolated(body).stdout == "refused\n"


def test_a_lower_limit_of_the_users_own_stays():
    body = "print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])"
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"from converters.isolation import isolate\nisolate(60)\n{body}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1000\n"
