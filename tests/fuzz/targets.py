"""One target for each parser: bytes in, our own errors out, and nothing else ever.

A target raises only when the parser broke its promise: another exception than an EdgedError, or an
input that was accepted and does not mean to others what it means to us. ``seeds`` makes valid
inputs, so that a mutation gets past the first check.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msgspec
import numpy as np
import onnx
from google.protobuf.message import DecodeError as ProtobufError
from PIL import Image

from converters.registries.pbtxt import parse_config
from converters.registries.triton_ensemble import read_steps
from converters.registries.triton_model import TritonModel, dtype_of
from converters.registries.triton_settings import batching_of, edged_settings
from edged import generating
from edged.config.load import parse
from edged.config.schema import ModelConfig
from edged.config.source import Source
from edged.errors import EdgedError, InvalidRequestError, RemoteProtocolError
from edged.manifest import canonical_json, parse_manifest
from edged.messages import (
    InferRequest,
    InferResponse,
    PrepareRequest,
    SequencedRequest,
    SequenceStep,
)
from edged.processing.codecs import build_codec
from edged.processing.columns import ColumnsCodec
from edged.processing.image import ImageCodec
from edged.processing.json_text import parse_json
from edged.processing.sound import read_samples, read_wav
from edged.protocol import (
    grpc_repeat,
    native,
    oip_generate,
    oip_grpc,
    oip_messages,
    oip_request,
    prepared,
    protobuf,
    steps,
    streams,
)
from edged.protocol import http2_frames as h2
from edged.protocol.frames import Frame, FrameReader, Kind, Limits
from edged.protocol.grpc_wire import HEAD, TAIL, Asking, CallError, MessageReader
from edged.protocol.http2_frames import PREFACE
from edged.protocol.http_get import HeadReader, RefusedError, Request, encode_reply, refusal
from edged.protocol.http_reader import HttpReader
from edged.protocol.layout import BodyLayout
from edged.specs import FeaturesInput, ImageInput, WordColumn
from edged.store import archive
from edged.store.activation import Record, encode, judge, read_log
from edged.store.bundle import check_names, open_bundle
from edged.store.golden import read_safetensors, write_safetensors
from edged.store.onnx_check import check_onnx
from edged.store.signing import Signer, generate_key, parse_signatures, sign_manifest
from edged.tensors import TensorSpec, check_tensors
from edged.topics import TopicFilter, TopicTemplate, can_match
from tests.bundles import make_bundle, make_manifest
from tests.fakes.http2 import HEADERS, Rig
from tests.fakes.manifests import make_manifest as bare_manifest
from tests.fuzz import mqtt_payloads
from tests.models import all_models, double, with_external_data

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Target:
    """One parser under test.

    Args:
        run: feeds it one input; whatever it raises is a finding.
        seeds: valid inputs, made anew each time.
        max_bytes: longest input worth trying.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    max_bytes: int = 4096


# --- native frames --------------------------------------------------------------------------------

_LIMITS = Limits(body_bytes=1 << 20)
_SPECS = (TensorSpec("x", "float32", ("batch", 4)), TensorSpec("on", "bool", ("batch",)))
_LAYOUT = BodyLayout(_SPECS)


def _run_body(frame: Frame) -> None:
    """A body that is accepted has as many bytes as its rows take."""
    rows = prepared.decode_run_head(frame).rows
    got = prepared.decode_run_body(frame.data, _LAYOUT, rows)
    assert (got["x"].shape, got["on"].shape) == ((rows, 4), (rows,))
    assert len(frame.body) == _LAYOUT.body_bytes(rows)


_DECODERS = {
    Kind.HELLO: native.decode_hello,
    Kind.WELCOME: native.decode_welcome,
    Kind.INFER: lambda frame: native.decode_infer(frame, _LIMITS),
    Kind.RESULT: lambda frame: native.decode_response(frame, "m", _LIMITS),
    Kind.ERROR: native.decode_reply,
    Kind.CALL: native.decode_call,
    Kind.REPLY: native.decode_reply,
    Kind.PREPARE: lambda frame: prepared.decode_prepare(frame, _LIMITS),
    Kind.PREPARED: lambda frame: prepared.decode_prepared(frame, _LIMITS),
    Kind.RUN: _run_body,
    Kind.ANSWER: lambda frame: prepared.decode_answer(frame, "m", _LAYOUT),
    Kind.FORGET: prepared.decode_forget,
    Kind.STREAM: lambda frame: streams.decode_stream(frame, _LIMITS),
    Kind.PART: lambda frame: streams.decode_part(frame, "m", _LIMITS),
    Kind.MORE: streams.decode_more,
    Kind.STEP: lambda frame: steps.decode_step(frame, _LIMITS),
}


def _frames(pieces: list[bytes]) -> list[tuple[object, ...]]:
    """What a reader makes of a stream: its frames, and the error that ended it."""
    reader = FrameReader(_LIMITS)
    found: list[tuple[object, ...]] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append((frame.kind, frame.request_id, bytes(frame.head), bytes(frame.body)))
                decode = _DECODERS.get(frame.kind)
                if decode is not None:
                    with contextlib.suppress(EdgedError):
                        decode(frame)
            reader.check()
    except RemoteProtocolError as exc:
        found.append((exc.message,))
    return found


def run_frames(data: bytes) -> None:
    """The first byte says how the rest is cut; the cuts must not change what is read."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _frames(pieces) == _frames([stream])


def seed_frames() -> list[bytes]:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    request = InferRequest("gate", {"x": rows, "on": np.array([True])}, 3, ("y",))
    response = InferResponse("gate", 3, 12, {"y": rows}, None, 1, 2, 3)
    step = SequencedRequest("gate", {"x": rows}, sequence=SequenceStep("mic", start=True))
    both = {"x": rows, "on": np.array([True, False])}
    failed = InferResponse("gate", 3, 12, error=RemoteProtocolError("no"))
    messages = [
        native.encode_hello("camera"),
        native.encode_welcome("edged", _LIMITS, 16),
        native.encode_infer(7, request, 250),
        native.encode_response(7, response),
        native.encode_response(7, failed),
        streams.encode_stream(8, request, 250, 4),
        streams.encode_part(8, response, 0),
        streams.encode_more(8, 2),
        steps.encode_step(8, step, 250),
        native.encode_call(8, "status", {"model": "m", "n": [1, {"a": None}]}),
        native.encode_reply(8, {"models": [{"name": "m", "ready": True}]}),
        prepared.encode_prepare(9, PrepareRequest("gate", _SPECS, "champion", ("y",))),
        prepared.encode_prepared(9, 1, 3, 12, _SPECS),
        prepared.encode_run(9, prepared.RunHead(1, 2, 250), _LAYOUT, both),
        prepared.encode_answer(9, InferResponse("gate", 3, 12, both), _LAYOUT, 2) or [],
        prepared.encode_cancel(9),
        prepared.encode_forget(1),
    ]
    frames = [b"".join(buffers) for buffers in messages]
    return [b"\x00" + frame for frame in frames] + [b"\x1f" + b"".join(frames)]


# --- scrapers and probes --------------------------------------------------------------------------


class _OtherReader(BaseHTTPRequestHandler):
    """The head as Python's own server reads it; never answers."""

    def __init__(self, head: bytes) -> None:
        self.rfile = io.BytesIO(head)
        self.raw_requestline = self.rfile.readline()
        self.is_good = self.parse_request()

    def send_error(self, *_: object, **__: object) -> None: ...


def _head(pieces: list[bytes]) -> Request | str:
    reader = HeadReader()
    try:
        for piece in pieces:
            request = reader.feed(piece)
            if request is not None:
                return request
    except RefusedError as exc:
        return encode_reply(refusal(exc)).decode("ascii")
    return "more"


def run_http(data: bytes) -> None:
    """Cuts change nothing, and what is accepted is the same GET to another reader."""
    if not data:
        return
    step, stream = data[0] + 1, data[1:]
    found = _head([stream[at : at + step] for at in range(0, len(stream), step)])
    assert found == _head([stream])
    if isinstance(found, str):
        return
    other = _OtherReader(stream[: stream.index(b"\r\n\r\n") + 4])
    assert (other.is_good, other.command) == (True, "GET")
    path = other.path.partition("?")[0]
    # That reader makes one slash of several at the beginning.
    assert path == found.path or path == "/" + found.path.lstrip("/")
    accept = [value.strip(" \t") for value in other.headers.get_all("accept", [])]
    assert ", ".join(accept) == found.accept


def seed_http() -> list[bytes]:
    heads = [
        b"GET /metrics HTTP/1.1\r\nHost: a:9\r\nAccept: text/plain;q=0.5\r\naccept: */*\r\n\r\n",
        b"GET /health/ready?verbose=1 HTTP/1.0\r\nContent-Length: 0\r\n\r\nbody",
        b"GET //x HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    return [bytes([cut]) + head for cut, head in zip((0, 2, 30, 255), heads, strict=True)]


# --- files of a bundle ----------------------------------------------------------------------------


@contextlib.contextmanager
def _file(data: bytes):
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def run_archive(data: bytes) -> None:
    """What is accepted reads the same in another zip reader."""
    with _file(data) as fd:
        try:
            mine = {e.name: archive.read(fd, e, 1 << 20) for e in archive.read_entries(fd)}
        except EdgedError:
            return
    with zipfile.ZipFile(io.BytesIO(data)) as other:
        assert mine == {name: other.read(name) for name in other.namelist()}


def run_bundle(data: bytes) -> None:
    """Frame, manifest, names, members: everything that is read before a byte is staged."""
    with (
        _file(data) as fd,
        contextlib.suppress(EdgedError),
        open_bundle(Path(f"/proc/self/fd/{fd}")) as bundle,
    ):
        for member in bundle.manifest.members:
            for _ in bundle.stream(member):
                pass


def seed_bundles() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.edgb"
        key = Signer.from_file(generate_key(Path(folder) / "k")[0])
        external, files = with_external_data()
        sidecars = {name: ("onnx-data", data) for name, data in files.items()}
        return [
            make_bundle(path, double(), key=key).read_bytes(),
            make_bundle(path, double(), golden=False).read_bytes(),
            make_bundle(path, external, key=key, extra=sidecars).read_bytes(),
        ]


def _sorted_json(data: bytes) -> bytes:
    """The same document in the one form that is read, so that a change gets past that check."""
    try:
        return json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError):
        return b""


def run_manifest(data: bytes) -> None:
    """What is accepted has one form, and its signature can be asked for."""
    for text in (data, _sorted_json(data)):
        with contextlib.suppress(EdgedError):
            manifest = parse_manifest(text)
            assert canonical_json(manifest) == text
            assert manifest.input_specs()
            assert manifest.is_row_wise in (True, False)
            check_names(manifest)


def seed_manifests() -> list[bytes]:
    image = ImageInput(width=8, height=8, mode="L", scale=0.5, mean=(0.1,), std=(0.2,))
    processing = {"input_processing": {"x": image}}
    return [
        canonical_json(make_manifest(double())[0]),
        canonical_json(make_manifest(double(), golden=False, **processing)[0]),
        *(canonical_json(make_manifest(model)[0]) for model in all_models()[:5]),
    ]


def run_signatures(data: bytes) -> None:
    """Pairs of a name and 64 bytes, or refused."""
    for text in (data, _sorted_json(data)):
        with contextlib.suppress(EdgedError):
            assert all(len(signature) == 64 for _, signature in parse_signatures(text))


def seed_signatures() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        signers = [Signer.from_file(generate_key(Path(folder) / name)[0]) for name in "abc"]
    return [sign_manifest(b"{}", signers[:count]) for count in range(4)]


def run_golden(data: bytes) -> None:
    """Every byte of the body belongs to one tensor; also with the header's length set right."""
    _golden(data)
    end = data.rfind(b"}") + 1
    if end > 8:
        _golden((end - 8).to_bytes(8, "little") + data[8:])


def _golden(data: bytes) -> None:
    try:
        tensors = read_safetensors(data)
    except EdgedError:
        return
    head = int.from_bytes(data[:8], "little")
    assert sum(array.nbytes for array in tensors.values()) == len(data) - 8 - head
    again = read_safetensors(write_safetensors(tensors))
    assert all(again[name].tobytes() == array.tobytes() for name, array in tensors.items())


def seed_golden() -> list[bytes]:
    samples = {"in.x": np.ones((2, 3), np.float32), "out.y": np.array([True, False])}
    return [
        write_safetensors(samples),
        write_safetensors({"a": np.zeros((0, 4), np.int64), "b": np.array(1, np.uint8)}),
        write_safetensors({}),
    ]


_MEMBERS = {"weights.data": 64}


def run_onnx(data: bytes) -> None:
    """What is accepted names, as the official parser reads it, no file but the members."""
    try:
        check_onnx(data, _MEMBERS)
    except EdgedError:
        return
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except ProtobufError:
        return  # a part that we pass over is malformed: a runtime refuses it too
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            assert entry.key != "location" or entry.value in _MEMBERS, entry


def seed_onnx() -> list[bytes]:
    return [model.data for model in all_models()] + [with_external_data()[0].data]


def run_log(data: bytes) -> None:
    """Reading raises nothing; what was read, written again, says the same; it can be judged."""
    _log(data)
    texts = [line[9:] for line in data.split(b"\n")]
    _log(b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts))


def _log(data: bytes) -> None:
    history = read_log(data)
    again = read_log(b"".join(encode(record) for record in history.records()))
    assert again.damaged == 0
    for record in history.last.values():
        judge(record.digest, record.previous, record, {record.digest: True})
        judge(None, None, record, {})


def seed_log() -> list[bytes]:
    records = [
        Record(event="try", model="m", digest="a" * 64, current="b" * 64, previous="c" * 64),
        Record(event="good", model="m", digest="a" * 64),
        Record(event="bad", model="n", digest="d" * 64, attempts=3),
    ]
    return [b"".join(encode(record) for record in records), encode(records[0]), b""]


# --- configuration --------------------------------------------------------------------------------


def run_config(data: bytes) -> None:
    """A snapshot, or problems of which each has a place."""
    source = Source(Path("/etc/edged"), {"edged.yaml": data})
    try:
        parse(source, source.root)
    except EdgedError as exc:
        problems = getattr(exc, "problems", ())
        assert problems
        assert all(problem.file and problem.message for problem in problems)


def seed_config() -> list[bytes]:
    files = sorted(ROOT.glob("configs/**/*.yaml"))
    cases = sorted((ROOT / "tests/config/cases").glob("**/*.yaml"))
    return [path.read_bytes() for path in [*files, *cases]]


def run_topics(data: bytes) -> None:
    """Filter, template and topic, a line each; a rendering is caught where it may be caught."""
    words = [*data.decode("utf-8", "surrogateescape").split("\n", 2), "", ""][:3]
    topic_filter = template = None
    with contextlib.suppress(EdgedError):
        topic_filter = TopicFilter.parse(words[0])
        topic_filter.match(words[2])
    with contextlib.suppress(EdgedError):
        template = TopicTemplate.parse(words[1])
        levels = dict.fromkeys(template.names, words[2])
        topic = template.render(levels)
        if topic_filter is not None and topic_filter.match(topic) is not None:
            assert can_match(template, topic_filter)


def seed_topics() -> list[bytes]:
    return [
        b"plant/{site}/+/vib\nplant/{site}/out\na",
        b"plant/{site}/#\nplant/{a}/{b}\nplant",
        b"$SYS/broker/+\na//b\nx/y",
        "größe/{é}/+\na/{n}\nü".encode(),
    ]


# --- payloads -------------------------------------------------------------------------------------

_TABLE = bare_manifest([("x", "float32", ("batch", 2))])
_NAMED = bare_manifest(
    [("x", "float32", ("batch", 2))], input_processing={"x": FeaturesInput(names=("a b", "c.0"))}
)
_WORDED = bare_manifest(
    [("x", "float32", ("batch", 2))],
    input_processing={
        "x": FeaturesInput(("a", "b"), {"b": WordColumn(("red", "grün"), missing=2)})
    },
)
_TWO = bare_manifest([("x", "float32", ("batch", "time")), ("n", "int64", ("batch", 1))])
_FLAGS = bare_manifest([("x", "bool", ("batch", 2, 2))])


@cache
def _codecs() -> list[tuple[object, object]]:
    def make(codec, manifest):
        return build_codec(codec, manifest, input_name=None, fields=()), manifest

    table = ColumnsCodec([(_TABLE.input_specs()[0], ("p.q", "r"))])
    return [
        make("json", _TABLE),
        make("json", _NAMED),
        make("json", _WORDED),
        make("json", _TWO),
        make("json", _FLAGS),
        make("raw", _TABLE),
        make("raw", _FLAGS),
        (table, _TABLE),
    ]


def run_payload(data: bytes) -> None:
    """The first byte picks a codec; what is accepted fits the model."""
    if not data:
        return
    codec, manifest = _codecs()[data[0] % len(_codecs())]
    try:
        tensors = codec.decode(data[1:])
    except InvalidRequestError:
        return
    check_tensors(manifest.input_specs(), tensors, "m")


def seed_payloads() -> list[bytes]:
    payloads = [
        b"[[1, 2.5], [-3e2, 4]]",
        b'{"a b": 1, "c": [true]}',
        '[{"a": 1, "b": "grün"}, {"a": 2, "b": null}]'.encode(),
        b'{"inputs": {"x": [[1, 2]], "n": [[9007199254740993]]}}',
        b"[[[true, false], [0, 1]]]",
        np.ones((2, 2), np.float32).tobytes(),
        bytes([0, 1, 1, 0]),
        b'[{"p": {"q": 1}, "r": null}, {"p": {"q": "\\u0041"}, "r": 2}]',
    ]
    return [bytes([number]) + payload for number, payload in enumerate(payloads)]


def run_json(data: bytes) -> None:
    """What is accepted is what the standard parser reads, and can be written again."""
    try:
        found = parse_json(data)
    except InvalidRequestError:
        return
    assert repr(found) == repr(json.loads(data))


def seed_json() -> list[bytes]:
    tree = {"a": [1, -2.5e-3, "\u00fc\U0001f600", None, True, {"b": []}], "": {"c": '\\"/'}}
    return [
        json.dumps(tree).encode(),
        json.dumps(tree, ensure_ascii=False, indent=1).encode(),
        b"[" * 32 + b"]" * 32,
        b"1" * 400,
        msgspec.json.encode({str(number): number for number in range(40)}),
    ]


_PICTURE = bare_manifest(
    [("x", "float32", ("batch", 3, 6, 4))],
    input_processing={"x": ImageInput(width=4, height=6, resize="letterbox")},
)


@cache
def _image_codec() -> ImageCodec:
    # Imported above, not by the first build_codec: atheris guides by what it saw being imported.
    return ImageCodec(_PICTURE.input_specs()[0], _PICTURE.input_processing["x"])


def run_image(data: bytes) -> None:
    """A picture of the model's size, or refused."""
    try:
        tensor = _image_codec().decode(data)["x"]
    except InvalidRequestError:
        return
    assert tensor.shape == (1, 3, 6, 4)


def seed_images() -> list[bytes]:
    pixels = np.random.default_rng(7).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: list[tuple[str, str, dict[str, object]]] = [
        ("RGB", "PNG", {}),
        ("P", "PNG", {}),
        ("1", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("L", "JPEG", {"exif": exif}),
        ("CMYK", "JPEG", {}),
    ]
    found = []
    for mode, kind, options in ways:
        out = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(out, kind, **options)
        found.append(out.getvalue())
    return found


def run_wav(data: bytes) -> None:
    """Finite samples, no more than there are bytes for, or refused."""
    try:
        layout, part = read_wav(memoryview(data))
        samples = read_samples(part, layout, channel=None, max_seconds=1)
    except InvalidRequestError:
        return
    assert 0 < samples.size <= len(data)
    assert np.isfinite(samples).all()


def seed_wavs() -> list[bytes]:
    samples = np.random.default_rng(7).uniform(-1, 1, (16, 2))
    kinds = {1: ("<i2", 32767), 3: ("<f4", 1)}
    found = []
    for tag, (dtype, full) in kinds.items():
        body = (samples * full).astype(dtype).tobytes()
        block = 2 * np.dtype(dtype).itemsize
        head = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 2, 8000, 8000 * block, block, block * 4)
        rest = b"WAVE" + head + b"LIST\4\0\0\0abcd" + struct.pack("<4sI", b"data", len(body)) + body
        found.append(b"RIFF" + struct.pack("<I", len(rest)) + rest)
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    head = (
        struct.pack("<4sIHHIIHHHHI", b"fmt ", 40, 0xFFFE, 1, 8000, 24000, 3, 24, 22, 24, 4) + guid
    )
    rest = b"WAVE" + head + struct.pack("<4sI", b"data", 0xFFFFFFFF) + bytes(range(48))
    return [*found, b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + rest]


# --- artefacts of other tools ---------------------------------------------------------------------


def run_pbtxt(data: bytes) -> None:
    """A Triton configuration that is accepted can be judged to the end, and its sums fit edged's."""
    try:
        config, _ = parse_config(data.decode("utf-8", "replace"))
    except EdgedError:
        return
    model = TritonModel("m", Path("/m"), config, "onnxruntime", (1,))
    section = edged_settings(model, batching_of(model, could_batch=True))
    msgspec.convert({"bundle": "m.edgb", **section}, ModelConfig, dec_hook=_quantity)
    for entry in (*config.input, *config.output):
        dtype_of(entry)
    with contextlib.suppress(EdgedError):
        read_steps(model)


def _quantity(kind: type, value: object) -> object:
    return kind.parse(value)  # type: ignore[attr-defined]


def seed_pbtxt() -> list[bytes]:
    return [line.encode("ascii") for line in _PBTXT.split("\n\n")]


_PBTXT = """\
name: "m" platform: 'onnxruntime_onnx' max_batch_size: 8 output { name: "y" dims: 2 }
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ 3, -1 ] } } ]

dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
default_queue_policy { max_queue_size: 9 } } instance_group [ { count: 2 kind: KIND_CPU } ]

ensemble_scheduling { step [ { model_name: "a" model_version: -1 input_map { key: "x" value: "i" }
output_map { key: "y" value: "o" } } ] max_inflight_requests: 2 }

version_policy { specific { versions: [ 1, 3 ] } } parameters { key: "k" value { string_value: "v" } }
model_warmup { inputs { key: "x" value { dims: 1 zero_data: true } } }

novelty < a: [ 1, { b: "c" } ] > optimization { graph { level: 1 } }"""


def run_requests(data: bytes) -> None:
    """However the bytes are cut, the same requests come out of them."""
    whole, cut = HttpReader(4096), HttpReader(4096)
    found = whole.feed(data)
    pieces = [one for start in range(0, len(data), 7) for one in cut.feed(data[start : start + 7])]
    same = [(one.method, one.target, one.headers, bytes(one.body)) for one in found]
    assert same == [(one.method, one.target, one.headers, bytes(one.body)) for one in pieces]
    assert all(len(one.body) <= 4096 for one in found)


def seed_requests() -> list[bytes]:
    chunked = (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    packed = zlib.compress(b"hello" * 9)
    return [
        b"GET /v2?x=1 HTTP/1.1\r\nHost: a\r\nAccept: b\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + chunked,
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Encoding: deflate\r\nContent-Length: "
        + b"%d\r\n\r\n%s" % (len(packed), packed),
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    ]


def run_oip(data: bytes) -> None:
    """A length of the JSON in two bytes, then the body."""
    length, body = int.from_bytes(data[:2], "little"), data[2:]
    with contextlib.suppress(EdgedError):
        asked = oip_request.decode_request(body, length or None, 4096)
        assert sum(array.nbytes for array in asked.inputs.values()) <= 4096
        for array in asked.inputs.values():
            # Behind the JSON there may be any bits.
            assert length or array.dtype.kind != "f" or np.isfinite(array).all()


def run_generate(data: bytes) -> None:
    """Whether the model makes texts in the first bit, then the body."""
    makes_text = bool(data[:1] and data[0] & 1)
    specs = generating.INPUTS if makes_text else GENERATE_SPECS
    try:
        asked = oip_generate.decode_generate(data[1:], specs, 4096, makes_text=makes_text)
    except EdgedError:
        return
    if makes_text:
        generating.read_request(asked.inputs[generating.REQUEST].tobytes())
    else:
        assert sum(array.nbytes for array in asked.inputs.values()) <= 4096
        assert set(asked.inputs) <= {spec.name for spec in specs}


def run_grpc(data: bytes) -> None:
    """A ModelInferRequest; what is known of it reads it as it was read."""
    with contextlib.suppress(EdgedError):
        found = oip_grpc.decode_infer(data, 4096)
        # Strings take more as objects than on the wire.
        numbers = [a for a in found.asked.inputs.values() if a.dtype.kind != "O"]
        assert sum(array.nbytes for array in numbers) <= 4096
        repeat = grpc_repeat.repeat_of(data, found)
        if repeat is not None:
            assert repeat.fits(data)
            for name, array in repeat.inputs(data).items():
                assert array.tobytes() == found.asked.inputs[name].tobytes()


def seed_grpc() -> list[bytes]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    raw = {
        "model_name": "m",
        "model_version": "3",
        "inputs": [tensor],
        "outputs": [{"name": "y", "parameters": {"classification": {"int64": 2}}}],
        "raw_input_contents": [struct.pack("<2f", 1, 2)],
    }
    typed = {
        "id": "a",
        "parameters": {"timeout": {"int64": 5}, "sequence_id": {"string": "s"}},
        "inputs": [
            {**tensor, "contents": {"fp32_contents": [1, 2]}},
            {
                "name": "n",
                "shape": [3],
                "datatype": "INT16",
                "contents": {"int_contents": [1, -1, 300]},
            },
        ],
    }
    return [protobuf.encode(oip_messages.INFER_REQUEST, one) for one in (raw, typed)]


GENERATE_SPECS = (
    TensorSpec("x", "float32", ("batch", 2)),
    TensorSpec("n", "int16", ()),
    TensorSpec("words", "string", ("batch", "count")),
)


def seed_generate() -> list[bytes]:
    numbers = {
        "id": "a",
        "x": [[1, 2.5]],
        "n": 3,
        "words": ["a", "b"],
        "parameters": {"timeout": 5},
    }
    text = {"text_input": "a", "max_tokens": 3, "stop_words": "", "parameters": {"top_p": 0.5}}
    return [bytes([at]) + json.dumps(one).encode() for at, one in enumerate((numbers, text))]


def seed_oip() -> list[bytes]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32"}
    plain = {"id": "a", "inputs": [{**tensor, "data": [[1, 2.5]]}], "parameters": {"timeout": 5}}
    blob = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": 8}}],
        "outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": True}}],
        "parameters": {"sequence_id": "s", "sequence_start": True},
    }
    text = json.dumps(blob).encode()
    words = {**tensor, "datatype": "BYTES"}
    behind = json.dumps({"inputs": [{**words, "parameters": {"binary_data_size": 13}}]}).encode()
    return [
        b"\0\0" + json.dumps({"inputs": [{**words, "data": ["a", "\u00e4"]}]}).encode(),
        len(behind).to_bytes(2, "little") + behind + b"\2\0\0\0ab\3\0\0\0abc",
        b"\0\0" + json.dumps(plain).encode(),
        len(text).to_bytes(2, "little") + text + struct.pack("<2f", 1, 2),
    ]


# --- gRPC -----------------------------------------------------------------------------------------


def _http2(pieces: list[bytes]) -> tuple[object, ...]:
    """What a connection is asked, what it writes, and what each body's messages are."""
    rig = Rig(greets=False)
    for piece in pieces:
        rig.feed(piece)
    asked, streams = rig.asked, rig.streams
    assert streams.busy == len(asked.opened)
    messages: list[object] = []
    for stream in asked.opened:
        asking = Asking(stream.request)
        body = asked.bodies[stream.number]
        try:
            messages += map(bytes, MessageReader(1024, asking.coding).feed(body))
        except CallError as exc:
            messages.append(exc.text)
        if streams.by_number.get(stream.number) is stream:
            streams.answer(stream, HEAD, [body], len(body), TAIL)
    return (asked.bodies, asked.whole, asked.reset, rig.reason, rig.taken(), messages)


def run_http2(data: bytes) -> None:
    """The first byte says how the rest is cut; the cuts must not change what is read."""
    if not data:
        return
    step, stream = data[0] + 1, PREFACE + data[1:]
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _http2(pieces) == _http2([stream])


def seed_http2() -> list[bytes]:
    rig = Rig()
    block = rig.encoder.encode([*HEADERS, ("grpc-encoding", "gzip"), ("grpc-timeout", "1S")])
    packed = gzip.compress(b"x" * 50, mtime=0)
    body = b"\x00\x00\x00\x00\x02ab\x01" + len(packed).to_bytes(4, "big") + packed
    begin = h2.encode_settings(
        {h2.Setting.INITIAL_WINDOW_SIZE: 20, h2.Setting.HEADER_TABLE_SIZE: 9}
    )
    whole = h2.END_HEADERS | h2.END_STREAM
    return [
        b"\x00" + begin + rig.headers(1) + h2.encode(h2.Type.DATA, h2.END_STREAM, 1, body),
        b"\x07" + begin + h2.encode(h2.Type.HEADERS, 0, 3, block[:9])
        + h2.encode(h2.Type.CONTINUATION, h2.END_HEADERS, 3, block[9:])
        + h2.encode(h2.Type.DATA, h2.PADDED, 3, b"\x02" + body + bytes(2))
        + h2.encode_window(3, 5) + h2.encode_window(0, 70_000) + h2.encode(h2.Type.PING, 0, 0, bytes(8))
        + h2.encode(h2.Type.HEADERS, whole, 3, b"\x00\x01a\x01b"),
        b"\xff" + begin + h2.encode(h2.Type.HEADERS, whole, 1, block)
        + h2.encode_reset(1, h2.Reason.CANCEL) + h2.encode(h2.Type.PRIORITY, 0, 5, bytes(5))
        + h2.encode(0x77, 0, 0, b"?") + h2.encode_goaway(0, h2.Reason.NO_ERROR),
    ]  # fmt: skip


TARGETS: dict[str, Target] = {
    "http2": Target(run_http2, seed_http2, 2048),
    "frames": Target(run_frames, seed_frames, 2048),
    "http": Target(run_http, seed_http, 9216),
    "requests": Target(run_requests, seed_requests, 2048),
    "oip": Target(run_oip, seed_oip, 2048),
    "generate": Target(run_generate, seed_generate, 2048),
    "grpc": Target(run_grpc, seed_grpc, 2048),
    "archive": Target(run_archive, seed_bundles, 8192),
    "bundle": Target(run_bundle, seed_bundles, 8192),
    "manifest": Target(run_manifest, seed_manifests),
    "signatures": Target(run_signatures, seed_signatures),
    "golden": Target(run_golden, seed_golden),
    "onnx": Target(run_onnx, seed_onnx, 8192),
    "activation": Target(run_log, seed_log),
    "config": Target(run_config, seed_config, 8192),
    "topics": Target(run_topics, seed_topics, 2048),
    "payload": Target(run_payload, seed_payloads),
    "json": Target(run_json, seed_json),
    "cbor": Target(mqtt_payloads.run_cbor, mqtt_payloads.seed_cbor),
    "msgpack": Target(mqtt_payloads.run_msgpack, mqtt_payloads.seed_msgpack),
    "image": Target(run_image, seed_images, 8192),
    "wav": Target(run_wav, seed_wavs, 2048),
    "pbtxt": Target(run_pbtxt, seed_pbtxt, 2048),
}
