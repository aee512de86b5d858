"""The flags of ``texts``, and the words after."""

from __future__ import annotations

from pathlib import Path

from converters.flags import build_parser
from converters.texts.pack import Outcome
from converters.texts.words import TOKENS, describe
from edged.store.bundle import read_manifest
from tests.fakes import texts


def test_flags():
    args = build_parser().parse_args(["texts", "m", "-o", "m.edgb", "--name", "story"])
    assert (args.folder, args.output, args.name) == (Path("m"), Path("m.edgb"), "story")
    assert (args.release, args.version, args.prompt, args.tokens) == (1, None, None, TOKENS)


def test_words(tmp_path: Path):
    texts.make_text_bundle(tmp_path / "s.edgb", golden=False)
    manifest = read_manifest(tmp_path / "s.edgb")[1]
    said = describe(Outcome(manifest, "ab12", 8, 512, ("README.md",), is_signed=True), Path("o"))
    assert said[0] == "o: story release 1, signed"
    assert "ab12" in said[1]
    assert "8 tokens" in said[2]
    assert "512 bytes" in said[3]
    assert said[4] == "left out: README.md"
