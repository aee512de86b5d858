"""The words of ``edged-convert trust``; ``test_trusting.py`` has what becomes of them."""

from __future__ import annotations

from pathlib import Path

from converters.flags import build_parser


def test_lists_are_lists() -> None:
    words = [
        "trust",
        "-o",
        "x",
        "--root",
        "a",
        "--root",
        "b",
        "--release",
        "c",
        "--floor",
        "m@1",
        "--from",
        "y",
        "--version",
        "4",
    ]
    found = build_parser().parse_args(words)
    assert (found.root, found.release) == ([Path("a"), Path("b")], [Path("c")])
    assert (found.old, found.number, found.floor) == (Path("y"), 4, ["m@1"])
    assert (found.revoke, found.expires, found.root_threshold) == ([], None, None)
