"""``texts`` on the command line: its flags, and what is said after. Imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converters.texts.pack import Outcome

PROMPTS = ("The quick brown fox", "Once upon a time", "The capital of France is", "1, 2, 3, 4,")
"""Where the user names none: the one after which a model is surest is taken."""
TOKENS = 32
"""Of the sample: enough that keys and values of earlier tokens decide, and a second's work."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Everything that ``texts`` takes."""
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="holds genai_config.json")
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="the bundle to write")
    add("--name", required=True, help="the model's name")
    add("--release", type=int, default=1, metavar="N", help="default 1")
    add("--version", metavar="TEXT", help="for people; default: the release")
    add("--prompt", metavar="TEXT", help="of the sample; default: the best of a few")
    add("--tokens", type=int, default=TOKENS, metavar="N", help=f"at most; default {TOKENS}")
    add("--key", type=Path, help="sign with this private key")


def describe(outcome: Outcome, output: Path) -> list[str]:
    """What is said of a bundle that was written."""
    signed = "signed" if outcome.is_signed else "not signed"
    lines = [
        f"{output}: {outcome.manifest.name} release {outcome.manifest.release}, {signed}",
        f"sha256 of its manifest: {outcome.digest}",
        f"sample: {outcome.tokens} tokens, the same from several starts",
        f"a text keeps {outcome.token_bytes} bytes for each token of it and its prompt",
    ]
    if outcome.left_out:
        lines.append(f"left out: {', '.join(outcome.left_out)}")
    return lines
