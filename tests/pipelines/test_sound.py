"""Steps on sounds: what is foretold, what is refused, and MFCC of a tone from its file's bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.io.wavfile

from edged.config.shapes import WindowsConfig
from edged.config.sound import AudioConfig, MelConfig, ResampleConfig, SignalConfig
from edged.errors import DecodeError, FieldError, TooLargeError
from edged.pipelines.checks import MOST_MADE
from edged.pipelines.shapes import windows_work
from edged.pipelines.signal import signal_work
from edged.pipelines.sound import audio_work, mel_work, resample_work
from edged.processing.resample import resample
from edged.tensors import TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.pipelines import Site, model
from tests.pipelines.test_run import ask

TONE = (np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) * 16384).astype(np.int16)
BYTES = TensorSpec("from", "uint8", ("bytes",))


def wav(samples: np.ndarray = TONE, rate: int = 8000) -> np.ndarray:
    file = io.BytesIO()
    scipy.io.wavfile.write(file, rate, samples)
    return np.frombuffer(file.getvalue(), np.uint8)


def audio(**fields: object):
    return audio_work(AudioConfig(from_="x", **fields))


def test_a_file():
    work = audio(rate=16000)
    (spec,) = work.outputs({"from": BYTES})
    assert str(spec) == "float32[*samples]"
    got = work.run({"from": wav()})["samples"]
    np.testing.assert_array_equal(got, resample((TONE / 32768).astype(np.float32), 8000, 16000))
    same = audio(rate=8000).run({"from": np.concatenate([wav(), wav()])[: len(wav())]})["samples"]
    np.testing.assert_array_equal(same * 32768, TONE)


def test_every_second_byte_is_read_as_it_lies():
    """A view of another tensor need not be in one piece."""
    twice = np.repeat(wav(), 2)[::2]
    np.testing.assert_array_equal(audio(rate=8000).run({"from": twice})["samples"] * 32768, TONE)


def test_bare_samples_of_a_channel():
    stereo = np.stack([TONE, -TONE], axis=1)
    work = audio(rate=16000, encoding="int16", recorded=8000, channels=2, channel=1)
    data = np.frombuffer(stereo.tobytes(), np.uint8)
    (spec,) = work.outputs({"from": TensorSpec("from", "uint8", (len(data),))})
    got = work.run({"from": data})["samples"]
    assert got.shape == spec.shape == (16000,)
    np.testing.assert_array_equal(got, resample((-TONE / 32768).astype(np.float32), 8000, 16000))


def test_what_the_caller_is_told():
    work = audio(rate=16000, max_seconds=0.5)
    with pytest.raises(TooLargeError, match=r"1\.0 s; the limit is 0\.5 s"):
        work.run({"from": wav()})
    with pytest.raises(DecodeError, match="expected a WAV file"):
        work.run({"from": np.zeros(0, np.uint8)})
    with pytest.raises(ValueError, match="choose rates with a common divisor"):
        audio(rate=16000).run({"from": wav(rate=15999)})
    with pytest.raises(DecodeError, match="no whole number of 1 x int16"):
        audio(rate=8000, encoding="int16").run({"from": np.zeros(3, np.uint8)})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"recorded": 8000}, "says itself"),
        ({"channels": 2}, "says itself"),
        ({"encoding": "int16", "channel": 1}, "channels 0 to 0"),
        ({"encoding": "int16", "recorded": 15999}, "common divisor"),
    ],
)
def test_settings_that_do_not_go_together(fields: dict, words: str):
    with pytest.raises(FieldError, match=words):
        audio(rate=16000, **fields)


def test_inputs_that_are_no_sound():
    for spec in (TensorSpec("from", "int8", ("n",)), TensorSpec("from", "uint8", ("batch", "n"))):
        with pytest.raises(FieldError, match="expected the bytes of a file"):
            audio(rate=16000).outputs({"from": spec})


@pytest.mark.parametrize("length", [8000, "n"])
def test_another_rate(length: object):
    work = resample_work(ResampleConfig(from_="x", have=3, want=2))
    (spec,) = work.outputs({"from": TensorSpec("from", "int16", ("batch", length))})
    got = work.run({"from": np.stack([TONE, TONE])})["samples"]
    assert got.shape == (2, 5334)
    assert spec.shape == ("batch", 5334 if length == 8000 else "*samples")
    with pytest.raises(FieldError, match="expected samples"):
        work.outputs({"from": TensorSpec("from", "float64", ("n",))})
    with pytest.raises(FieldError, match="common divisor"):
        resample_work(ResampleConfig(from_="x", have=8193, want=2))


def test_cepstra_of_a_tone():
    samples = TONE.astype(np.float32) / 32768
    frames = signal_work(
        SignalConfig(from_="x", size=200, step=80, window="hann", spectrum="power", fft=256)
    ).run({"from": samples})["frames"]
    fields = {"rate": 8000, "bands": 26, "low": 100.0, "log": "db", "span": 80.0}
    (bands,) = mel_work(MelConfig(from_="x", **fields)).run({"from": frames}).values()
    assert bands.shape == (98, 26)
    tops = 700 * (10 ** (np.linspace(150.49, 2146.06, 28)[1:-1] / 2595) - 1)
    assert set(bands.argmax(axis=1)) == {np.abs(tops - 440).argmin()}
    assert bands.max() - bands.min() <= 80.001
    work = mel_work(MelConfig(from_="x", cepstra=13, **fields))
    (spec,) = work.outputs({"from": TensorSpec("from", "float32", ("n", 129))})
    assert spec.shape == ("n", 13)
    wanted = scipy.fft.dct(bands, norm="ortho")[:, :13]
    np.testing.assert_allclose(work.run({"from": frames})["mel"], wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"high": 4001.0}, "at most half the rate, 4000"),
        ({"low": 500.0, "high": 500.0}, "more than low, 500"),
        ({"cepstra": 27}, "26 at most"),
        ({"span": 80.0}, "write log: db"),
    ],
)
def test_bands_that_cannot_be(fields: dict, words: str):
    with pytest.raises(FieldError, match=words):
        mel_work(MelConfig(from_="x", rate=8000, bands=26, **fields))


def test_a_spectrum_of_unknown_width():
    work = mel_work(MelConfig(from_="x", rate=8000, bands=26))
    for shape in (("n", "bins"), (129,)):
        with pytest.raises(FieldError, match="expected a spectrum"):
            work.outputs({"from": TensorSpec("from", "float32", shape)})


GROWS = {
    "audio": lambda: audio(rate=64_000, encoding="uint8", recorded=1000),
    "resample": lambda: resample_work(ResampleConfig(from_="x", have=1, want=64)),
    "signal": lambda: signal_work(SignalConfig(from_="x", size=500, step=1, spectrum="power")),
    "windows": lambda: windows_work(WindowsConfig(from_="x", size=500, step=1)),
}


@pytest.mark.parametrize("name", GROWS)
@pytest.mark.hostile(
    "H11 a recording whose windows, spectra or samples at another rate no memory would hold"
)
def test_what_grows_beyond_memory(name: str, monkeypatch: pytest.MonkeyPatch):
    assert MOST_MADE == 1 << 26
    monkeypatch.setattr("edged.pipelines.checks.MOST_MADE", 50_000)
    samples = np.zeros(1000, np.uint8)
    with pytest.raises(ValueError, match=r"1000 values would become [0-9]+; the limit is 50000"):
        GROWS[name]().run({"from": samples})
    assert GROWS[name]().run({"from": samples[:500]})


@on_loop
async def test_the_example_of_the_page():
    page = (Path(__file__).parents[2] / "docs/pipelines.md").read_text()
    text = page.partition("## Sound\n")[2].partition("  sound:\n")[2].partition("```")[0]
    sums = model(
        lambda inputs: {"y": inputs["x"].max(axis=(1, 2), keepdims=True)[:, 0]},
        [("x", "float32", ("batch", 100, 40))],
        [("y", "float32", ("batch", 1))],
    )
    site = Site(text, sounds=sums)
    answers, _ = ask(site, {"file": wav(np.tile(TONE, 3))})
    await until(lambda: answers)
    scores = answers.only.outputs["scores"]
    assert scores.shape == (6, 1)  # 301 frames
    assert np.ptp(scores[:5]) < 0.5
