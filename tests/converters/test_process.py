"""A process for one job: how its end is told, and what is read of what it leaves."""

import os
import sys

import pytest

from converters.errors import ConversionError
from converters.process import Told, read_left, run_process

TOLD = Told(name="work", limit="--limit", fell_over="the tool fell over")


def run(tmp_path, code, timeout_s=60):
    words = [sys.executable, "-c", code]
    run_process(words, tmp_path, {"LANG": "C"}, timeout_s=timeout_s, told=TOLD)


def test_its_output_is_kept_and_its_last_words_told(tmp_path):
    run(tmp_path, "print('all is well')")
    assert (tmp_path / "log").read_text() == "all is well\n"
    with pytest.raises(ConversionError, match="the work process failed with exit status 4: it is"):
        run(tmp_path, "print('it is'); raise SystemExit(4)")
    with pytest.raises(ConversionError, match="exit status 4: it said nothing"):
        run(tmp_path, "raise SystemExit(4)")


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        ("SIGSEGV", r"SIGSEGV \(the tool fell over\)"),
        ("SIGKILL", r"SIGKILL \(out of memory\?\)"),
        ("SIGTERM", "SIGTERM: it said"),
    ],
)
def test_its_signal_is_told(tmp_path, signal, words):
    with pytest.raises(ConversionError, match=f"the work process was ended by {words}"):
        run(tmp_path, f"import os, signal; os.kill(os.getpid(), signal.{signal})")


def test_too_long(tmp_path):
    with pytest.raises(ConversionError, match=r"the work took longer than 1 s \(--limit\)"):
        run(tmp_path, "import time; time.sleep(600)", timeout_s=1)


def test_only_plain_files_of_a_size_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    (tmp_path / "b").symlink_to("a")
    os.mkfifo(tmp_path / "pipe")
    assert read_left(tmp_path, "a", 4, TOLD) == b"four"
    assert read_left(tmp_path, "pipe", 4, TOLD) == b""
    with pytest.raises(ConversionError, match="the work's a is over 3 bytes"):
        read_left(tmp_path, "a", 3, TOLD)
    for name in ("b", "c"):
        with pytest.raises(ConversionError, match=f"the work process left no {name}"):
            read_left(tmp_path, name, 4, TOLD)
