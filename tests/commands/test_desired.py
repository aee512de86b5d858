"""``edged desired`` where no daemon runs; before one, it is e2e/test_desired.py's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.generation.documents import Documents
from edged.generation.envelope import load_signers, open_envelope
from edged.store.keys import generate_key


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "n.yaml"
    path.write_text("models: {n: {bundle: n-1.edgb}}\n")
    return path


def sign(document: object, *more: str, version: str = "7", against: str = "12") -> int:
    words = ["--version", version, "--node", "n", "--against", against]
    return main(["desired", "sign", str(document), *words, *more])


def test_a_message(document: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private, public = generate_key(tmp_path / "fleet")
    assert sign(document, "--key", str(private), against="12AB34cd56ef") == 0
    payload = capsys.readouterr().out.strip().encode()
    trust = load_signers([public], 1, is_required=True)
    envelope = open_envelope(payload, trust, "n", 1 << 20).envelope
    assert (envelope.version, envelope.against) == (7, "12ab34cd56ef")
    assert envelope.document == document.read_text()
    assert sign(document) == 0
    assert json.loads(capsys.readouterr().out)["against"] == 12
    (tmp_path / "none.yaml").write_text("")
    assert sign(tmp_path / "none.yaml") == 0


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("mqtt: {host: x}\n", {}, "document:1:1: mqtt: is not for a document over MQTT"),
        ("models: {}\nmodels: {}\n", {}, "document:2:1"),
        ("models: {}\n", {"version": "0"}, "version"),
        ("models: {}\n", {"against": "xyz"}, "against"),
        ("models: {}\n", {"against": "123456789"}, "against"),
    ],
)
def test_what_every_device_would_refuse_is_not_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: dict[str, str], said: str
) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(text)
    assert sign(path, **words) != 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err


def test_removing_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["desired", "remove", "--state-dir", str(tmp_path), "--socket", str(tmp_path / "none")]
    assert main(words) == 0
    assert "there is no document" in capsys.readouterr().out
    documents = Documents(tmp_path / "desired")
    documents.begin(1, "sha", "models: {}\n", "base")
    documents.take(1)
    assert main(words) == 0
    assert "it starts without it" in capsys.readouterr().out


def test_without_a_daemon_the_state_directory_says_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--socket", str(tmp_path / "no.sock"), "--state-dir", str(tmp_path)]
    assert main(["desired", "show", *words]) == 0
    captured = capsys.readouterr()
    assert "configuration over MQTT: none in effect" in captured.out
    assert "no.sock" in captured.err
    documents = Documents(tmp_path / "desired")
    documents.begin(7, "ab" * 32, "models: {}\n", "base")
    documents.take(7)
    documents.decide("accepted")
    assert main(["desired", "show", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["desired"]["state"]) == (7, "accepted")
    assert main(["desired", "remove", *words]) == 0
    capsys.readouterr()
    assert main(["desired", "show", "--json", *words]) == 0
    assert json.loads(capsys.readouterr().out)["version"] is None
