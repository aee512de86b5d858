"""One model of a Triton repository: what runs it, which versions serve, and what cannot be taken.

Decides by names and the configuration; opens no model. What a bundle or edged's configuration
cannot express is a difference in the report, what would change answers is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from converters.errors import ConversionError, UnsupportedModelError
from converters.registries.files import inside, names_in, read_text
from converters.registries.pbtxt import parse_config, read_config

CONFIG = "config.pbtxt"
MAX_RELEASE = 2**53 - 1


@dataclass(frozen=True)
class Backend:
    """Who runs a model in Triton.

    Args:
        file: the file's name where the configuration gives none.
        refusal: why it cannot become a bundle, and what to do; empty when it can.
    """

    file: str
    refusal: str = ""


ENSEMBLE = "ensemble"
BACKENDS = {
    "onnxruntime": Backend("model.onnx"),
    "pytorch": Backend("model.pt"),
    "tensorflow": Backend("model.savedmodel"),
    "tensorrt": Backend(
        "model.plan",
        "a TensorRT plan belongs to one GPU and one TensorRT: import the ONNX file that it was "
        "built from",
    ),
    "torch_aoti": Backend(
        "model.pt2", "code compiled for one machine: import the module or an ONNX export of it"
    ),
    "graphdef": Backend(
        "model.graphdef", "a frozen TensorFlow 1 graph: convert it with tf2onnx to model.onnx"
    ),
    "openvino": Backend("model.xml", "OpenVINO's own form: import the ONNX file that it came from"),
    "python": Backend(
        "model.py", "Python code: what it computes is in no model file; port it, or convert the "
        "model that it calls"
    ),
    "dali": Backend("model.dali", "a DALI pipeline: bake the steps into the model's graph"),
}  # fmt: skip
_PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": "tensorrt",
    "pytorch_libtorch": "pytorch",
    "torch_aoti": "torch_aoti",
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "graphdef",
    "ensemble": ENSEMBLE,
}
"""``platform`` of older configurations → ``backend``."""


@dataclass
class TritonModel:
    """One folder of a repository, understood.

    Args:
        name: the folder's name, which is the model's.
        folder: where it lies.
        config: the ModelConfig message.
        backend: a key of ``BACKENDS``, or ``ensemble``.
        versions: the ones that Triton would serve, lowest first.
        differences: what is not the same afterwards.
    """

    name: str
    folder: Path
    config: Any
    backend: str
    versions: tuple[int, ...]
    differences: list[str] = field(default_factory=list)

    @property
    def is_ensemble(self) -> bool:
        """Whether it is made of other models."""
        return self.backend == ENSEMBLE

    def file(self, version: int) -> Path:
        """The model file (or folder) of a version.

        Raises:
            ConversionError: it is not there, or leads out of the folder.
        """
        name = self.config.default_model_filename or BACKENDS[self.backend].file
        path = inside(self.folder, f"{version}/{name}", f'model "{self.name}"')
        if self.backend == "onnxruntime" and path.is_dir():
            return inside(path, "model.onnx", f'model "{self.name}"')
        return path


def list_models(repository: Path) -> list[str]:
    """Names of the folders that Triton would take for models.

    Raises:
        ConversionError: there is none.
    """
    names = [
        name
        for name in names_in(repository)
        if not name.startswith(".") and (repository / name).is_dir()
        and (CONFIG in names_in(repository / name) or _versions(repository / name))
    ]  # fmt: skip
    if not names:
        raise ConversionError(
            f'"{repository}" is not a Triton model repository: no folder in it has {CONFIG} or a '
            "numbered version"
        )
    return names


def read_model(repository: Path, name: str) -> TritonModel:
    """Understand one folder.

    Raises:
        UnsupportedModelError: something that a bundle cannot carry; names the field and what to do.
        ConversionError: the folder or its configuration is not what Triton takes.
    """
    folder = inside(repository, name, "Triton repository")
    differences: list[str] = []
    if CONFIG in names_in(folder):
        config, unknown = read_config(inside(folder, CONFIG, name))
        differences += [f"{CONFIG}, {text}" for text in unknown]
    else:
        config = parse_config("")[0]
        differences.append(f"no {CONFIG}: names and shapes are taken from the model file")
    if config.name and config.name != name:
        differences.append(
            f'name: the configuration says "{config.name}", which Triton refuses; the folder\'s '
            "name is used"
        )
    versions = _choose_versions(config, folder, differences)
    backend = _backend(config, folder, name, versions)
    model = TritonModel(name, folder, config, backend, versions, differences)
    if not model.is_ensemble:
        _refuse(model)
    return model


def _versions(folder: Path) -> list[int]:
    """Folders with a number; Triton passes over others, and those that begin with 0."""
    names = [name for name in names_in(folder) if name.isascii() and name.isdigit()]
    numbers = [int(name) for name in names if not name.startswith("0") and len(name) <= 16]
    return sorted(number for number in numbers if number <= MAX_RELEASE)


def _choose_versions(config: Any, folder: Path, differences: list[str]) -> tuple[int, ...]:
    there = _versions(folder)
    if not there:
        raise ConversionError(f'model "{folder.name}" has no version: a folder named 1, 2, …')
    policy = config.version_policy
    if policy.HasField("all"):
        return tuple(there)
    if policy.HasField("specific"):
        wanted = sorted(set(policy.specific.versions))
        missing = [str(number) for number in wanted if number not in there]
        if missing:
            differences.append(f"version_policy: version {', '.join(missing)} is not there")
        chosen = tuple(number for number in wanted if number in there)
        if not chosen:
            raise ConversionError(f'model "{folder.name}": version_policy names no version that is')
        return chosen
    return tuple(there[-(policy.latest.num_versions or 1) :])


def _backend(config: Any, folder: Path, name: str, versions: tuple[int, ...]) -> str:
    """Who runs it: as the configuration says, else by the default file or the name's ending."""
    if config.HasField("ensemble_scheduling") or config.platform == ENSEMBLE:
        return ENSEMBLE
    said = config.backend or _PLATFORMS.get(config.platform, config.platform)
    if config.platform == "tensorflow_graphdef":
        said = "graphdef"
    if not said:
        there = names_in(folder / str(versions[-1]))
        files = [config.default_model_filename] if config.default_model_filename else there
        found = [
            key for key, entry in BACKENDS.items()
            if entry.file in files or any(f.endswith(Path(entry.file).suffix) for f in files)
        ]  # fmt: skip
        ending = name.rpartition(".")[2]
        said = found[0] if found else ending if ending in BACKENDS else ""
    if said == "pytorch" and config.platform == "torch_aoti":
        said = "torch_aoti"
    if not said:
        raise ConversionError(
            f'model "{name}": neither backend nor platform is said, and version {versions[-1]} '
            f"holds no file with a default name ({', '.join(b.file for b in BACKENDS.values())})"
        )
    if said not in BACKENDS:
        raise UnsupportedModelError(
            f'model "{name}": the backend "{said}" has no route to a bundle (taken: onnxruntime, '
            "pytorch, tensorflow)"
        )
    return str(said)


def _refuse(model: TritonModel) -> None:
    """What would give other answers is not taken.

    Raises:
        UnsupportedModelError: names the field, the reason and what to do.
    """
    config = model.config
    reasons = []
    if refusal := BACKENDS[model.backend].refusal:
        reasons.append(f"backend {model.backend}: {refusal}")
    if config.HasField("sequence_batching"):
        reasons.append(
            "sequence_batching: edged keeps no state between requests yet, and without it the "
            "answers would be others"
        )
    if config.model_transaction_policy.decoupled:
        reasons.append("model_transaction_policy.decoupled: several answers to one request")
    if config.model_operations.op_library_filename:
        reasons.append("model_operations: operators in a library; a bundle carries no code")
    if config.batch_input or config.batch_output:
        reasons.append("batch_input, batch_output: ragged batches")
    for entry in config.input:
        if entry.allow_ragged_batch:
            reasons.append(f'input "{entry.name}": allow_ragged_batch')
        if entry.optional:
            reasons.append(f'input "{entry.name}": optional; a bundle needs every input')
    for entry in (*config.input, *config.output):
        if entry.is_shape_tensor or entry.is_non_linear_format_io:
            reasons.append(f'"{entry.name}": a tensor in TensorRT\'s own form')
        kind = _type_name(entry)
        if kind in ("TYPE_STRING", "TYPE_BF16"):
            reasons.append(f'"{entry.name}": {kind}; bundles carry numbers up to 64 bits')
        if any(size == 0 or size < -1 for size in entry.dims):
            reasons.append(f'"{entry.name}": dims {list(entry.dims)}; expected sizes or -1')
    if reasons:
        raise UnsupportedModelError("; ".join(reasons))


def _type_name(entry: Any) -> str:
    kind = entry.DESCRIPTOR.fields_by_name["data_type"].enum_type
    return str(kind.values_by_number[entry.data_type].name)


def dtype_of(entry: Any) -> str:
    """The dtype of an input or output; empty where the configuration does not say."""
    return {
        "TYPE_BOOL": "bool", "TYPE_FP16": "float16", "TYPE_FP32": "float32",
        "TYPE_FP64": "float64", "TYPE_INVALID": "",
    }.get(_type_name(entry), _type_name(entry).removeprefix("TYPE_").lower())  # fmt: skip


def labels_of(model: TritonModel) -> dict[str, tuple[str, ...]]:
    """Label files by output, one label a line.

    Raises:
        ConversionError: a file is not there, or leads out of the model's folder.
    """
    found = {}
    for entry in model.config.output:
        if entry.label_filename:
            path = inside(model.folder, entry.label_filename, f'output "{entry.name}"')
            lines = [line.strip() for line in read_text(path).splitlines()]
            found[entry.name] = tuple(line for line in lines if line)
    return found
