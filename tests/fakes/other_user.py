"""A process of another user: runs one function there and brings back what it returns, as JSON."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become two other users")


def as_user(uid: int, work: Callable[[], Any], gid: int = 65534, groups: Iterable[int] = ()) -> Any:
    """Fork, become that user, run ``work``; its answer must be plain values.

    Raises:
        AssertionError: it raised; the other side's traceback.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            try:
                said = {"value": work()}
            except BaseException:
                said = {"error": traceback.format_exc()}
            with os.fdopen(writing, "w") as pipe:
                json.dump(said, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, "the other process said nothing"
    said = json.loads(text)
    assert "error" not in said, said["error"]
    return said["value"]


def beside(uid: int, work: Callable[[], Any]) -> int:
    """The same without waiting; returns the process, whose status is 0 when nothing was raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            as_user(uid, work)
            status = 0
        finally:
            os._exit(status)
    return child
