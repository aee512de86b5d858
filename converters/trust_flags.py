"""The words of ``edged-convert trust``."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path


def add_flags(parser: ArgumentParser) -> None:
    """The words of the command."""
    add = parser.add_argument
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="such as site.trust")
    add(
        "--from",
        dest="old",
        type=Path,
        metavar="FILE",
        help="the one before; what is not said stays",
    )
    add("--root", action="append", default=[], type=Path, metavar="PUB", help="may change trust")
    add("--root-threshold", type=int, metavar="N", help="how many of them must sign")
    add("--release", action="append", default=[], type=Path, metavar="PUB", help="signs bundles")
    add("--release-threshold", type=int, metavar="N", help="how many of them must sign")
    add("--revoke", action="append", default=[], type=Path, metavar="PUB", help="also what serves")
    add("--floor", action="append", default=[], metavar="MODEL@N", help="no release before N")
    add("--expires", metavar="DAY", help="nothing new is taken after it; never: no end")
    add("--issued", metavar="DAY", help="default: today")
    add(
        "--version",
        dest="number",
        type=int,
        metavar="N",
        help="default: one more than before, or 1",
    )
