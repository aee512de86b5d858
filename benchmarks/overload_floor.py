"""What the bar of ``overload-done`` is held against: the same two models, and next to nothing else.

One process with the daemon's sessions and as many threads for runs as there are cores. What
reads, queues, refuses and answers is C (``overload_floor.c``) and checks nothing: a request that
finds room in its class' short line is let in, any other gets a canned refusal, all of one read in
one write.

    python -m benchmarks.overload_floor LIBRARY SOCKET MODEL_FILE MODEL_FILE

The models are called as their files are, without the suffix; the higher class comes first.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import raw
from benchmarks.models import Model
from benchmarks.stand import BenchError, Stand
from edged.errors import DeadlineExceededError, EdgedError, QueueFullError
from edged.protocol import native
from edged.system.timeslice import be_prompt

ROW_BYTES = 64
"""What a request holds, of either model: 16 numbers."""


class Asked(ctypes.Structure):
    """A request that was let in; see ``overload_floor.c``."""

    _fields_ = (
        ("row", ctypes.c_char * ROW_BYTES),
        ("id", ctypes.c_uint64),
        ("due_ns", ctypes.c_uint64),
        ("from", ctypes.c_void_p),
        ("class", ctypes.c_int),
    )


@contextmanager
def served(stand: Stand, models: Mapping[str, Model]) -> Iterator[Path]:
    """The floor as a process of its own; its socket."""
    library = stand.load.with_name("overload_floor.so")
    if not library.exists():
        raise BenchError(f"{library} is missing: make {library.parent.name}/{library.name}")
    path = stand.folder / "floor"
    files = []
    for name, model in models.items():
        # Its name is told by the file's, as the requests say it.
        file = stand.folder / f"{name}.onnx"
        if not file.exists():
            file.symlink_to(model.onnx)
        files.append(file)
    path.unlink(missing_ok=True)
    with stand.child("overload_floor", library, path, *files):
        yield path


def open_library(library: Path, path: Path, names: list[str]) -> ctypes.CDLL:
    """Have the C part listen; ``names`` of the models, the higher class first."""
    lib = ctypes.CDLL(os.fspath(library))
    lib.floor_answer.argtypes = (ctypes.POINTER(Asked), ctypes.c_char_p, ctypes.c_size_t)
    full = _frame(QueueFullError("its queue is full", retry_after_ns=1_000_000))
    late = _frame(DeadlineExceededError("the deadline passed in the queue"))
    # Kept with the library: it goes on reading them.
    lib.names = (ctypes.c_char_p * len(names))(*(name.encode() for name in names))
    sizes = map(ctypes.c_size_t, map(len, (full, late)))
    if lib.floor_open(os.fspath(path).encode(), lib.names, full, next(sizes), late, next(sizes)):
        raise BenchError(f"{path}: cannot listen there")
    return lib


def work(lib: ctypes.CDLL, runs: list[Callable[..., Any]]) -> None:
    """Run what is let in, for ever."""
    asked = Asked()
    place = ctypes.byref(asked)
    row = np.frombuffer(asked, np.float32, ROW_BYTES // 4).reshape(1, -1)
    while True:
        (answer,) = runs[lib.floor_take(place)](None, {"x": row})
        lib.floor_answer(place, answer.tobytes(), answer.nbytes)


def _frame(error: EdgedError) -> bytes:
    return b"".join(map(bytes, native.encode_error(0, error)))


def main() -> None:
    """See above."""
    library, path, *files = map(Path, sys.argv[1:])
    sys.setswitchinterval(0.0005)  # as the daemon
    lib = open_library(library, path, [file.stem for file in files])
    runs = [raw.open_session(file, 1).run for file in files]
    for _ in os.sched_getaffinity(0):
        threading.Thread(target=work, args=(lib, runs), daemon=True).start()
    print("listening", flush=True)
    be_prompt()  # as the daemon's loop
    lib.floor_serve()


if __name__ == "__main__":
    main()
