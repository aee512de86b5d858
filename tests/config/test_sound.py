"""What may be written about sounds: every range that a hostile or hurried hand would leave."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edged.config.sound import AudioConfig, MelConfig, ResampleConfig, SignalConfig

SIZE = {"from": "x", "size": 4}
BANDS = {"from": "x", "rate": 8000, "bands": 4}


def test_defaults():
    audio = msgspec.convert({"from": "x", "rate": 16000}, AudioConfig)
    assert (audio.encoding, audio.channel, audio.max_seconds) == ("wav", None, 600.0)
    assert msgspec.convert(SIZE, SignalConfig).centre == "none"
    assert msgspec.convert(BANDS, MelConfig).scale == "htk"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (AudioConfig, {"from": "x", "rate": 0}),
        (AudioConfig, {"from": "x", "rate": 16000, "max_seconds": 0}),
        (AudioConfig, {"from": "x", "rate": 16000, "channels": 0}),
        (AudioConfig, {"from": "x", "rate": 16000, "channel": -1}),
        (AudioConfig, {"from": "x", "rate": 16000, "encoding": "mp3"}),
        (ResampleConfig, {"from": "x", "have": 0, "want": 1}),
        (SignalConfig, SIZE | {"fft": 65537}),
        (SignalConfig, SIZE | {"step": -1}),
        (MelConfig, BANDS | {"bands": 0}),
        (MelConfig, BANDS | {"floor": 0}),
        (MelConfig, BANDS | {"span": -1}),
        (MelConfig, BANDS | {"hihg": 4000}),
    ],
)
def test_refused(kind: type, words: dict[str, Any]):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(words, kind)
