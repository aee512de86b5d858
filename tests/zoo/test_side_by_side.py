"""One daemon with models of many kinds at once: each answers as if it were alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

import converters
from edged.client import Client
from edged.manifest import TensorEntry, parse_manifest
from edged.processing.codecs import build_codec
from edged.processing.texts import pack_texts, unpack_texts
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.converters.worded import recipe_of_words, save_worded
from tests.e2e.process import running
from tests.fakes.pages import example
from tests.zoo import place, test_magika, test_minilm, test_ocr
from tests.zoo.own import sound

SILERO = place.find("silero-vad==6.2.3")
PARTS = [test_magika.FOLDER, test_ocr.FOLDER, test_ocr.PAGE, SILERO]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(None in PARTS, reason="needs .ci/venv … ocr-model zoo-half"),
]
TIMES = {"timeout": 120}
COLORS = ["red", "mauve", None, "red"]

Ask = Callable[[Client], None]
"""Asks once and holds the answer against the reference."""


def body_of(*examples: str) -> str:
    """The pages' examples as one configuration."""
    parts = [text.partition("pipelines:\n") for text in examples]
    models = "".join(head.partition("models:\n")[2] for head, _, _ in parts)
    return (
        "trust: {require_signatures: false}\n"
        f"models:\n{models}  vad: {{bundle: vad.edgb}}\n  parts: {{bundle: parts.edgb}}\n"
        f"pipelines:\n{''.join(tail for _, _, tail in parts)}"
    )


def ocr(folder: Path) -> Ask:
    test_ocr.make_bundles(folder)

    def ask(client: Client) -> None:
        result = client.infer("page", {"picture": test_ocr.pixels()})
        assert unpack_texts(result["text"]) == test_ocr.LINES

    return ask


def magika(folder: Path) -> Ask:
    test_magika.make_bundle_of_magika(folder)
    test_magika.make_files(folder / "files")
    done = subprocess.run(
        [sys.executable, "-c", test_magika.OWN, str(folder / "files")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(test_magika.FOLDER), str(place.OWN)])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    wanted = json.loads(done.stdout.splitlines()[-1])

    def ask(client: Client) -> None:
        for name, (label, _) in wanted.items():
            data = np.frombuffer((folder / "files" / name).read_bytes(), np.uint8)
            assert unpack_texts(client.infer("kind", {"file": data})["label"]) == [label], name

    return ask


def silero(folder: Path) -> Ask:
    """Its state goes with each question; the reference is the file in ONNX Runtime."""
    data = (SILERO / "silero_vad/data/silero_vad_half.onnx").read_bytes()
    state = ("float32", (2, 1, 128))
    model = SimpleNamespace(
        data=data,
        inputs=(
            TensorEntry("input", "float32", (1, 576)),
            TensorEntry("state", *state),
        ),
        outputs=(TensorEntry("output", "float32", (1, 1)), TensorEntry("stateN", *state)),
    )
    make_bundle(folder / "vad.edgb", model, name="vad", golden=False)
    chunks = sound(0.8)[: 576 * 20].reshape(20, 1, 576)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def chances(run: Callable[[dict[str, Any]], tuple[Any, Any]]) -> list[float]:
        carried, found = np.zeros((2, 1, 128), np.float32), []
        for chunk in chunks:
            chance, carried = run({"input": chunk, "state": carried})
            found.append(float(chance[0, 0]))
        return found

    wanted = chances(lambda given: tuple(session.run(["output", "stateN"], given)))

    def ask(client: Client) -> None:
        def run(given: dict[str, Any]) -> tuple[Any, Any]:
            result = client.infer("vad", given)
            return result["output"], result["stateN"]

        np.testing.assert_allclose(chances(run), wanted, atol=1e-5)

    return ask


def tabular(folder: Path) -> Ask:
    """Words and numbers through scikit-learn's own pipeline, converted."""
    model, table = save_worded(folder)
    key, _ = generate_key(folder / "release")
    recipe = recipe_of_words(folder, name="parts")
    converters.convert(recipe, folder / "parts.edgb", key=key, trust=True)
    rows = table.head(len(COLORS)).assign(color=COLORS).astype({"color": object})
    wanted = model.predict_proba(rows)
    words = json.dumps([
        {"mass": float(mass), "color": color}
        for mass, color in zip(rows["mass"], COLORS, strict=True)
    ])  # fmt: skip

    def ask(client: Client) -> None:
        manifest = parse_manifest(client.call("manifest", model="parts").encode())
        inputs = build_codec("json", manifest, input_name=None, fields=()).decode(words.encode())
        found = client.infer("parts", inputs)["probabilities"]
        np.testing.assert_allclose(found, wanted, atol=1e-6)

    return ask


def minilm(folder: Path) -> Ask:
    wanted = test_minilm.make_encoder(folder)

    def ask(client: Client) -> None:
        for text, vector in zip(test_minilm.TEXTS, wanted, strict=True):
            found = client.infer("embed", {"text": pack_texts([text.encode()])})["vector"]
            assert np.abs(found[0] - vector).max() <= 1e-5 * np.abs(wanted).max()

    return ask


def ask_all_at_once(folder: Path, body: str, asks: list[Ask]) -> None:
    """The first once, the others as often as it takes meanwhile."""
    problems: list[BaseException] = []
    is_over = threading.Event()
    with running(folder, body) as daemon:
        start = threading.Barrier(len(asks))

        def many(ask: Ask) -> None:
            try:
                with daemon.client(**TIMES) as client:
                    start.wait(60)
                    ask(client)
                    while ask is not asks[0] and not is_over.is_set():
                        ask(client)
            except BaseException as exc:
                problems.append(exc)
            if ask is asks[0]:
                is_over.set()

        threads = [threading.Thread(target=many, args=(ask,)) for ask in asks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with daemon.client() as client:
            status = client.status()
    if problems:
        raise problems[0]
    assert {one["state"] for one in status["releases"]} == {"ready"}
    assert not any(step["failed"] for one in status["releases"] for step in one.get("steps", []))


PAGES = [("pipelines.md", "A page of text"), ("text.md", "Kinds of files")]


@pytest.mark.frameworks
def test_reading_kinds_of_files_speech_and_a_table(tmp_path: Path):
    body = body_of(*(example(*page) for page in PAGES))
    ask_all_at_once(
        tmp_path, body, [ocr(tmp_path), magika(tmp_path), silero(tmp_path), tabular(tmp_path)]
    )


@pytest.mark.zoo
@pytest.mark.skipif(test_minilm.FOLDER is None or not place.OWN.is_dir(), reason="needs make zoo")
def test_and_sentences_too(tmp_path: Path):
    body = body_of(*(example(*page) for page in PAGES), example("text.md", "Text in, vector out"))
    makers = (ocr, magika, silero, tabular, minilm)
    ask_all_at_once(tmp_path, body, [make(tmp_path) for make in makers])
