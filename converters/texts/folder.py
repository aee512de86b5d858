"""Which files of a folder a model of ONNX Runtime GenAI needs, and whether a bundle can hold them.

The folder is the user's; nothing in it is run here. What the configuration may say is
``edged.runtimes.genai_config``'s decision, what an ONNX file may hold ``edged.store.onnx_check``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto

from converters.errors import ConversionError
from converters.pack import Kind
from converters.paths import check_plain
from converters.walk import graphs
from edged.errors import ManifestError
from edged.manifest import MEMBER_NAME
from edged.runtimes.genai_config import CONFIG, TOKENIZER_FILES, GenaiConfig, read_config
from edged.store.onnx_check import check_onnx

Precision = Literal["float32", "float16", "mixed"]
_CONFIG_CAP = 1 << 20
_TOKENIZER_CAP = 64 << 20
"""A vocabulary of 250,000 pieces with its merges takes 30 MB."""
_FILE_CAP = 4 << 30
"""Of a bundle's zip form."""
_DATA_ENDINGS = (".data", ".onnx_data", ".bin")


@dataclass(frozen=True)
class Folder:
    """A folder as it was read.

    Args:
        config: what its configuration says.
        files: contents by name, the configuration first.
        kinds: the type of each in a bundle.
        precision: of the weights.
        left_out: what else lies there.
    """

    config: GenaiConfig
    files: dict[str, bytes]
    kinds: dict[str, Kind]
    precision: Precision
    left_out: tuple[str, ...]


def read_folder(path: Path) -> Folder:
    """Read what a bundle takes of a folder.

    Raises:
        ConversionError: names the file, its field where there is one, and what to do.
    """
    if not (path / CONFIG).exists():
        raise ConversionError(
            f"{path}: expected a folder with {CONFIG}, as the model builder of onnxruntime-genai "
            "writes it"
        )
    names = sorted(one.name for one in path.iterdir())
    config_bytes = _read(path / CONFIG, _CONFIG_CAP)
    try:
        config = read_config(config_bytes, names)
    except ManifestError as exc:
        raise ConversionError(f"{path}: {exc.message}") from exc
    model = config.model.decoder.filename
    files, kinds = {CONFIG: config_bytes}, {CONFIG: _json()}
    files[model] = data = _read(path / model, _FILE_CAP)
    kinds[model] = "onnx"
    weights, precision = _look_into(path / model, data)
    for name in weights:
        files[name], kinds[name] = _read(path / name, _FILE_CAP), "onnx-data"
    try:
        check_onnx(data, {name: len(files[name]) for name in weights})
    except ManifestError as exc:
        raise ConversionError(f"{path / model}: {exc.message}") from exc
    for name in TOKENIZER_FILES:
        if name in names:
            files[name] = _read(path / name, _TOKENIZER_CAP)
            kinds[name] = "text" if name.endswith(".txt") else _json()
    _check_names(path, files, kinds)
    left_out = tuple(name for name in names if name not in files)
    return Folder(config, files, kinds, precision, left_out)


def _json() -> Kind:
    return "json"


def _read(path: Path, cap_bytes: int) -> bytes:
    check_plain(path, "file")
    try:
        with path.open("rb") as file:
            data = file.read(cap_bytes + 1)
    except OSError as exc:
        raise ConversionError(f"{path}: {exc.strerror}") from exc
    if not data or len(data) > cap_bytes:
        raise ConversionError(f"{path}: {len(data)} bytes; expected 1 to {cap_bytes}")
    return data


def _look_into(path: Path, data: bytes) -> tuple[list[str], Precision]:
    """The files that hold weights of an ONNX file, and the precision of what it computes with."""
    try:
        model = onnx.load_model_from_string(data)
    except Exception as exc:
        raise ConversionError(f"{path}: not an ONNX file: {exc}") from exc
    found, types = list[str](), set[int]()
    for tensor in _tensors(model):
        types.add(tensor.data_type)
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            name = entries.get("location", "")
            if "/" in name or not (path.parent / name).is_file():
                raise ConversionError(
                    f'{path}: weight "{tensor.name}" lies in "{name[:64]}", which is no file '
                    "beside it"
                )
            if name not in found:
                found.append(name)
    few_bits = any(node.op_type == "MatMulNBits" for g in graphs(model.graph) for node in g.node)
    if few_bits or TensorProto.INT8 in types:
        return found, "mixed"
    half = TensorProto.FLOAT16 in types and TensorProto.FLOAT not in types
    return found, "float16" if half else "float32"


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs(model.graph):
        yield from graph.initializer


def _check_names(path: Path, files: dict[str, bytes], kinds: dict[str, Kind]) -> None:
    for name in files:
        if not re.fullmatch(MEMBER_NAME.rstrip("\\Z"), name):
            raise ConversionError(
                f"{path / name}: a bundle cannot hold a file of that name; expected lower-case "
                "letters, digits, dots and dashes: export it under another one"
            )
        if kinds[name] == "onnx-data" and not name.endswith(_DATA_ENDINGS):
            raise ConversionError(
                f"{path / name}: weights in a file of this name; expected an ending of "
                f"{', '.join(_DATA_ENDINGS)}: export it again"
            )
        if kinds[name] == "onnx" and not name.endswith(".onnx"):
            raise ConversionError(f"{path / name}: expected a model file that ends in .onnx")
