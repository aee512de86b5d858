"""Texts in a real daemon: from a device, a terminal and a native client to vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.errors import EdgedError
from edged.pipelines.token_file import open_token_file
from edged.processing.texts import pack_texts
from tests import models
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.fakes.broker import Device, Mosquitto
from tests.fakes.pages import example
from tests.fakes.token_files import EVIL, SENTENCES, write_token_file

HEAD = "trust: {require_signatures: false}\n"
AGAIN = """\
  evil:
    inputs: {text: "uint8[characters]"}
    steps:
    - {name: words, tokens: {from: text, file: evil.json, length: 64}}
    - {name: each, model: encoder, inputs: {ids: words.ids, mask: words.mask}}
    outputs: {each: each}
"""
BINDINGS = """\
mqtt: {{host: 127.0.0.1, port: {port}}}
bindings:
- {{name: plain, from: in/plain, to: out/plain, model: embed}}
- {{name: note, from: in/note, to: out/note, model: embed, fields: [note.text]}}
- {{name: raw, from: in/raw, to: out/raw, model: embed, codec: raw}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text")
    write_token_file(path / "tokenizer.json")
    write_token_file(path / "evil.json", pre_tokenizer=EVIL)
    make_bundle(path / "encoder.edgb", models.embedding(), name="encoder")
    return path


def body() -> str:
    return HEAD + example("text.md", "Text in, vector out")


def vector(folder: Path, text: str) -> np.ndarray:
    ids = (
        open_token_file(folder / "tokenizer.json", 256, False)
        .encode(text, None, is_special=True)
        .ids
    )
    given = {"ids": np.array([ids]), "mask": np.ones((1, len(ids)), np.int64)}
    mean = models.embedding().reference(given)["y"][0].mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.slow
@pytest.mark.broker
def test_texts_of_devices(folder: Path):
    with (
        Mosquitto(folder) as broker,
        running(folder, body() + BINDINGS.format(port=broker.port)) as daemon,
    ):
        wait_for(lambda: daemon.status()["mqtt"]["state"] == "connected")
        with Device(broker, "out/+", "edged/+/error/+") as device:

            def answer(topic: str, payload: bytes) -> dict:
                device.publish(topic, payload)
                return json.loads(device.one().payload)

            rows = answer("in/plain", json.dumps(SENTENCES).encode())["rows"]
            noted = answer("in/note", json.dumps({"note": {"text": "heiß"}}).encode())
            raw = answer("in/raw", b"hot")
            half = answer("in/plain", b'"ok\\ud83d"')
            other = answer("in/raw", b"ok\xff")
    for text, row in zip(SENTENCES, rows, strict=True):
        np.testing.assert_allclose(row["vector"], vector(folder, text), atol=1e-6)
    np.testing.assert_allclose(noted["vector"], vector(folder, "heiß"), atol=1e-6)
    np.testing.assert_allclose(raw["vector"], vector(folder, "hot"), atol=1e-6)
    assert "half a character (a lone surrogate) at 2" in json.dumps(half)
    assert "text 0 is not UTF-8 (byte 2)" in json.dumps(other)


@pytest.mark.slow
@pytest.mark.hostile("F14 a tokeniser's file that is none, or whose pattern never ends")
@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
def test_a_terminal_and_clients_that_mean_harm(folder: Path):
    with running(folder, body() + AGAIN) as daemon, daemon.client(timeout=30) as client:
        done = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", daemon.socket, "embed", "text=is it hot?"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        shown = json.loads(done.stdout)["rows"][0]["vector"]
        np.testing.assert_allclose(shown, vector(folder, "is it hot?"), atol=1e-6)
        for data, said in (
            (b"a" * 65537, "text 0 has 65537 bytes; the limit is 65536"),
            (b"\xed\xa0\x80", "text 0 is not UTF-8"),
        ):
            with pytest.raises(
                EdgedError, match=f'pipeline "embed" release 1 step "words": {said}'
            ):
                client.infer("embed", {"text": pack_texts([data])})
        # More often than there are threads: none of them is lost.
        for _ in range(6):
            with pytest.raises(EdgedError, match="the package tokenizers gave up"):
                client.infer("evil", {"text": pack_texts([b"a" * 40 + b"!"])[0]})
        found = client.infer("embed", {"text": pack_texts([b"hot"])})["vector"][0]
        np.testing.assert_allclose(found, vector(folder, "hot"), atol=1e-6)


def test_a_check_says_where(folder: Path):
    (folder / "edged.yaml").write_text(body().replace("tokenizer.json", "tokeniser.json"))
    done = subprocess.run(
        [sys.executable, "-m", "edged", "check", "--config", str(folder / "edged.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 78
    assert "edged.yaml:8:48: " in done.stderr + done.stdout
    assert "pipelines.embed.steps[0].tokens.file: cannot read" in done.stderr + done.stdout
