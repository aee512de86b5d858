"""A wake word through a pipeline: bands, embeddings, word; as the package's own code hears it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal

from edged.manifest import TensorEntry
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.zoo import place

PACKAGE = "openwakeword==0.4.0"
FOLDER = place.find(PACKAGE)
SPOKEN = Path(__file__).parent / "alexa.wav"
"""The word, by espeak-ng 1.51: ``espeak-ng -v en-gb -s 140 -w alexa.wav alexa``; 22050 Hz."""
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOLDER is None, reason="needs .ci/venv … zoo-half"),
]
MODELS = {
    "mel": ("melspectrogram", ("input", 1, 1760), ("output", 1, 1, 8, 32)),
    "embedding": ("embedding_model", ("input_1", "batch", 76, 32, 1), ("conv2d_19", "batch", 1, 1, 96)),
    "word": ("alexa_v0.1", ("onnx::Flatten_0", 1, 16, 96), ("13", 1, 1)),
}  # fmt: skip
RATE, CHUNK = 16000, 1280
WARM = 26
"""Chunks until the package's own buffers hold nothing that it made up: 10 of bands, 16 of
embeddings."""
OWN = """\
import json, sys, types
import numpy as np
try:
    import tqdm
except ImportError:  # a bar for training, which nobody sees here
    sys.modules["tqdm"] = types.SimpleNamespace(tqdm=iter)
from openwakeword.model import Model
path = sys.argv[2]
model = Model(wakeword_model_paths=[path])
clip = np.load(sys.argv[1])
print(json.dumps([float(one["alexa_v0.1"]) for one in model.predict_clip(clip, padding=0)]))
"""


def make_bundles(folder: Path) -> None:
    for name, (file, taken, given) in MODELS.items():
        model = SimpleNamespace(
            data=(FOLDER / f"openwakeword/resources/models/{file}.onnx").read_bytes(),
            inputs=(TensorEntry(taken[0], "float32", taken[1:]),),
            outputs=(TensorEntry(given[0], "float32", given[1:]),),
        )
        make_bundle(folder / f"{name}.edgb", model, name=name, golden=False)


def example() -> str:
    """The pipeline of docs/pipelines.md."""
    page = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    return page.partition("## A wake word\n")[2].partition("```yaml\n")[2].partition("```")[0]


def wav(samples: np.ndarray, rate: int) -> np.ndarray:
    data = io.BytesIO()
    scipy.io.wavfile.write(data, rate, samples)
    return np.frombuffer(data.getvalue(), np.uint8)


def with_silence(samples: np.ndarray, rate: int) -> np.ndarray:
    """A faint hiss before and behind: three seconds and one."""
    rng = np.random.default_rng(0)
    hiss = [rng.integers(-3, 4, seconds * rate).astype(np.int16) for seconds in (3, 1)]
    return np.concatenate([hiss[0], samples, hiss[1]])


def test_the_scores_are_the_packages_own(tmp_path: Path):
    rate, spoken = scipy.io.wavfile.read(SPOKEN)
    resampled = scipy.signal.resample_poly(spoken.astype(float), RATE, rate)
    clip = with_silence(np.round(resampled).astype(np.int16), RATE)
    np.save(tmp_path / "clip.npy", clip)
    done = subprocess.run(
        [sys.executable, "-c", OWN, str(tmp_path / "clip.npy"),
         str(FOLDER / "openwakeword/resources/models/alexa_v0.1.onnx")],
        env={**os.environ, "PYTHONPATH": str(FOLDER)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = json.loads(done.stdout.splitlines()[-1])
    make_bundles(tmp_path)
    body = "trust: {require_signatures: false}\n" + example()
    with running(tmp_path, body) as daemon, daemon.client(timeout=60) as client:
        # Chunk k of the package begins 480 samples early, at 1280 * k - 480.
        got = client.infer("wake", {"file": wav(clip[CHUNK - 480 :], RATE)})["score"][:, 0]
        native = with_silence(spoken, rate)
        heard = client.infer("wake", {"file": wav(native, rate)})["score"][:, 0]
    # The first window ends with chunk WARM - 1; a last part of a chunk may be one more.
    wanted = own[WARM - 1 :]
    assert abs(len(got) - len(wanted)) <= 1
    length = min(len(got), len(wanted))
    np.testing.assert_allclose(got[:length], wanted[:length], atol=1e-4)
    assert max(wanted) > 0.9
    assert heard.max() > 0.9, "resampled by the step itself"
    assert got[:5].max() < 0.1
