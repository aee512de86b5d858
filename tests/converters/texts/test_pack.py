"""A folder becomes a signed bundle whose sample any device can prove."""

from __future__ import annotations

from pathlib import Path

import pytest

from converters.cli import main
from converters.errors import ConversionError
from converters.texts import pack as packing
from converters.texts.pack import Wish, pack_folder
from edged.errors import ManifestError
from edged.loading import open_artefact, prove
from edged.runtimes.onnxruntime_genai import GenaiRuntime
from edged.store.keys import generate_key
from edged.store.repository import Repository
from edged.store.stored import StoredRelease
from edged.store.trust_store import TrustStore
from tests.fakes import texts
from tests.fakes.texts import PROMPT, greedy, whole

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts.needs_package()
    made = tmp_path / "story"
    made.mkdir()
    for name, data in texts.files().items():
        (made / name).write_bytes(data)
    return made


def stored(bundle: Path, public: Path, state: Path) -> StoredRelease:
    trust = TrustStore.from_files([public], 1, required=True)
    repository = Repository(state)
    repository.open()
    return repository.import_bundle(bundle, trust)


def test_a_folder_and_a_key_give_a_bundle_that_proves_itself(folder: Path, tmp_path: Path):
    private, public = generate_key(tmp_path / "key")
    output = tmp_path / "story-3.edgb"
    outcome = pack_folder(folder, output, Wish("story", 3, prompt=PROMPT), private)
    assert outcome.is_signed
    assert outcome.token_bytes == 512
    assert 1 <= outcome.tokens <= 32
    release = stored(output, public, tmp_path / "state")
    assert release.manifest == outcome.manifest
    (entry,) = release.manifest.artefacts
    assert (entry.runtime, entry.precision) == ("genai", "float32")
    golden = release.golden()
    assert golden is not None
    assert whole(golden[1]).tokens == greedy().tokens[: outcome.tokens]
    session = open_artefact(release, GenaiRuntime(threads=1), entry)
    prove(session, release.manifest, golden)
    session.close()


def test_the_same_folder_gives_the_same_bytes(folder: Path, tmp_path: Path):
    for name in ("a.edgb", "b.edgb"):
        pack_folder(folder, tmp_path / name, Wish("story", prompt=PROMPT, tokens=4))
    assert (tmp_path / "a.edgb").read_bytes() == (tmp_path / "b.edgb").read_bytes()


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (Wish("../x"), ManifestError),
        (Wish("x", 0), ManifestError),
        (Wish("x", tokens=0), ConversionError),
    ],
)
def test_wishes_that_are_none(folder: Path, tmp_path: Path, wish: Wish, error: type[Exception]):
    with pytest.raises(error):
        pack_folder(folder, tmp_path / "o.edgb", wish)
    assert not (tmp_path / "o.edgb").exists()


def test_what_the_package_refuses(folder: Path, tmp_path: Path):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ConversionError, match=r"onnxruntime-genai .* refuses it"):
        pack_folder(folder, tmp_path / "o.edgb", Wish("story"))


class Fickle:
    """Says ``1 2 3 4`` to greedy asking; draws are as given."""

    def __init__(self, *drawn: list[int]) -> None:
        self.drawn = list(drawn)

    def tokens(self, _session: object, prompt: str, _most: int, **options: float) -> list[int]:
        if not options:
            return [1, 2, 3, 4]
        return self.drawn.pop(0) if self.drawn and prompt == "a" else [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("drawn", "count"),
    [
        ([], 4),
        ([[1, 2, 9, 4]], 2),
        ([[1, 2, 3], [1, 2, 3, 4, 5]], 3),
        ([[1, 2, 3, 9], [1, 9, 3, 4]], 1),
        ([[9]], 0),
        ([[]], 0),
    ],
)
def test_the_sample_ends_where_draws_part(
    drawn: list[list[int]], count: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packing, "_tokens", Fickle(*drawn).tokens)
    assert packing._sure_tokens(None, "a", 9) == count  # type: ignore[arg-type]


def test_no_prompt_after_which_it_is_sure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packing, "_tokens", Fickle([9]).tokens)
    with pytest.raises(ConversionError, match='after "a" no token is clearly the likeliest'):
        packing._surest(None, Wish("m", prompt="a"))  # type: ignore[arg-type]
    monkeypatch.setattr(packing, "PROMPTS", ("a", "b"))
    monkeypatch.setattr(packing, "_tokens", Fickle([9]).tokens)
    assert packing._surest(None, Wish("m")) == {"prompt": "b", "max_new_tokens": 4}  # type: ignore[arg-type]


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "o.edgb"
    assert main(["texts", str(folder), "-o", str(output), "--name", "story", "--tokens", "4"]) == 0
    assert "story release 1, not signed" in capsys.readouterr().out
    assert main([str(folder), "-o", str(output), "--name", "s", "--release", "1"]) != 0
    assert "edged-convert texts FOLDER makes a bundle of it" in capsys.readouterr().err
