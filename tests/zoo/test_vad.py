"""silero-vad as sequences: speech through a daemon, held against the package's own iterator."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edged.client import Client
from edged.manifest import TensorEntry
from tests.bundles import make_bundle
from tests.e2e.process import running, wait_for
from tests.zoo import place

FOLDER = place.find("silero-vad==6.2.3")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(FOLDER is None, reason="needs .ci/venv … zoo-half"),
    pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed"),
]
RATE, CHUNK, CONTEXT = 16000, 512, 64
SPEAKERS = (
    ("en", 150, "Open the valve, please. Now close it again, and tell me the pressure."),
    ("de", 140, "Bitte die Pumpe anhalten. Danke."),
    ("fr", 170, "Fermez la porte, s'il vous plait."),
    ("en+f3", 130, "Conveyor two has stopped. Conveyor two has stopped."),
)
CONFIG = (
    "trust: {require_signatures: false}\nreload: {settle: 10ms}\n"
    "models:\n  vad: {bundle: vad-*.edgb, sequence: {state: {state: stateN}}}\n"
)


def speech(voice: str, speed: int, text: str) -> np.ndarray:
    """What espeak-ng says, between two silences: float32[samples] at 16 kHz."""
    signal = pytest.importorskip("scipy.signal")
    command = ["espeak-ng", "--stdout", "-v", voice, "-s", str(speed), text]
    data = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        said = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("f4") / 32768
        said = signal.resample_poly(said, RATE, file.getframerate()).astype("f4")
    silence = np.zeros(RATE // 2, "f4")
    whole = np.concatenate([silence, said, silence])
    return whole[: len(whole) // CHUNK * CHUNK]


def bundle(path: Path, release: int) -> None:
    """The package's file for 16 kHz, with that number in it: its rows are on two axes."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(FOLDER / "silero_vad/data/silero_vad_16k_op15.onnx")
    (rate,) = [one for one in model.graph.input if one.name == "sr"]
    model.graph.input.remove(rate)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(RATE), "sr"))
    kept = ("float32", (2, "batch", 128))
    made = SimpleNamespace(
        data=model.SerializeToString(),
        inputs=(
            TensorEntry("input", "float32", ("batch", CHUNK + CONTEXT)),
            TensorEntry("state", *kept),
        ),
        outputs=(TensorEntry("output", "float32", ("batch", 1)), TensorEntry("stateN", *kept)),
    )
    make_bundle(path, made, name="vad", release=release, golden=False)


class Asked:
    """The daemon in the place of the package's model."""

    def __init__(self, client: Client) -> None:
        self.client, self.sequence = client, client.sequence("vad")
        self.context = np.zeros((1, CONTEXT), "f4")
        self.said: list[float] = []
        self.releases: list[int] = []

    def reset_states(self) -> None:
        self.sequence.restart()
        self.context[...] = 0

    def __call__(self, x, rate: int):
        assert rate == RATE
        chunk = np.concatenate([self.context, x.numpy().reshape(1, -1)], axis=1)
        self.context = chunk[:, -CONTEXT:]
        result = self.sequence.infer(input=chunk)
        self.said.append(float(result["output"][0, 0]))
        self.releases.append(result.release)
        return x.new_tensor(result["output"])


class Own:
    """The package's model, and what it said."""

    def __init__(self, model) -> None:
        self.model, self.said = model, []
        self.reset_states = model.reset_states

    def __call__(self, x, rate: int):
        answer = self.model(x, rate)
        self.said.append(answer.item())
        return answer


def test_speech_as_the_package_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(FOLDER))
    from silero_vad.utils_vad import OnnxWrapper, VADIterator

    file = str(FOLDER / "silero_vad/data/silero_vad_16k_op15.onnx")
    streams = [torch.from_numpy(speech(*one)).split(CHUNK) for one in SPEAKERS]
    with pytest.warns(UserWarning, match="16000"):
        owns = [Own(OnnxWrapper(file, force_onnx_cpu=True)) for _ in streams]
    wanted = [[VADIterator(own)] for own in owns]
    wanted = [
        [iterator(chunk) for chunk in stream]
        for (iterator,), stream in zip(wanted, streams, strict=True)
    ]

    bundle(tmp_path / "vad-1.edgb", 1)
    with running(tmp_path, CONFIG) as daemon, daemon.client(timeout=30) as client:
        asked = [Asked(client) for _ in streams]
        iterators = [VADIterator(one) for one in asked]
        heard: list[list] = [[] for _ in streams]
        longest = max(map(len, streams))
        for step in range(longest):
            if step == 30:
                bundle(tmp_path / "vad-2.edgb", 2)
                wait_for(lambda: daemon.status()["models"][0]["serving"] == 2)
            for iterator, stream, found in zip(iterators, streams, heard, strict=True):
                if step < len(stream):
                    found.append(iterator(stream[step]))
        found = daemon.status()["sequences"]["vad"]
    assert found == {
        "open": 4, "state_bytes": 4 * 1024, "begun": 4, "ended": 0, "evicted": 0, "timed_out": 0, "lost": 0,
    }  # fmt: skip
    for one, own, events, expected in zip(asked, owns, heard, wanted, strict=True):
        assert set(one.releases) == {1, 2}
        np.testing.assert_allclose(one.said, own.said, rtol=0, atol=1e-6)
        assert events == expected
        assert any(event is not None and "start" in event for event in events)
        assert min(own.said) < 0.1
        assert max(own.said) > 0.9


def test_many_at_once_share_runs(tmp_path: Path):
    """The same stream beside others gives what it gives alone."""
    bundle(tmp_path / "vad-1.edgb", 1)
    stream = speech(*SPEAKERS[1])[: 40 * CHUNK].reshape(-1, CHUNK)
    chunks = [
        np.concatenate([before[-CONTEXT:], now])[None]
        for before, now in zip([np.zeros(CHUNK, "f4"), *stream[:-1]], stream, strict=True)
    ]
    with running(tmp_path, CONFIG) as daemon, daemon.client(timeout=60) as client:
        with client.sequence("vad") as alone:
            wanted = [float(alone.infer(input=chunk)["output"][0, 0]) for chunk in chunks]
        sequences = [client.sequence("vad") for _ in range(16)]
        # Each is one chunk behind the one before it: all states differ at any time.
        pending: list[list] = [[] for _ in sequences]
        rows = 0
        for step in range(len(chunks) + len(sequences)):
            answers = [
                (at, sequence.submit(input=chunks[step - at]))
                for at, sequence in enumerate(sequences)
                if 0 <= step - at < len(chunks)
            ]
            for at, answer in answers:
                result = answer.result()
                rows = max(rows, result.batch_rows)
                pending[at].append(float(result["output"][0, 0]))
    for found in pending:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert rows > 1, "they never shared a run"
