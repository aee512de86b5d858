"""The models that are measured, made here: no download, and the same ones on every machine.

``tiny`` is a scikit-learn network on iris, through the real converter; ``cnn`` has MobileNetV2's
shape and random weights, because its time is what matters and not its opinion.
"""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]
COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")

_BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
"""MobileNetV2, table 2: expansion, channels, repeats, stride of the first."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A bundle and what is in it.

    Args:
        name: in configurations.
        bundles: by release.
        onnx: the model file of release 1, for the floor that runs without us.
        rows: real inputs by name, many rows.
    """

    name: str
    bundles: dict[int, Path]
    onnx: Path
    rows: Arrays

    def request(self, first: int, count: int = 1) -> Arrays:
        """Some rows as one request."""
        return {name: array[first : first + count] for name, array in self.rows.items()}


def make_tiny(folder: Path, releases: int) -> Model:
    """A network of one hidden layer of 16 on [N,4] float32; each release has another seed."""
    samples = folder / "iris.npz"
    bundles = {}
    for release in range(1, releases + 1):
        bundles[release] = folder / f"tiny-{release}.edgb"
        source = folder / f"tiny-{release}.joblib"
        if not bundles[release].exists():
            _train(source, samples, release)
            more = ("--trust", "--features", ",".join(COLUMNS))
            _convert("tiny", source, bundles[release], samples, release, *more)
    with np.load(samples) as data:
        rows = dict(data)
    return Model("tiny", bundles, unpack(bundles[1], folder), rows)


def make_cnn(folder: Path) -> Model:
    """MobileNetV2's shape on [N,3,224,224] float32, 1000 classes."""
    source, samples, bundle = folder / "cnn.onnx", folder / "cnn.npz", folder / "cnn-1.edgb"
    if not bundle.exists():
        source.write_bytes(mobilenet())
        pixels = np.random.default_rng(2).random((8, 3, 224, 224), dtype=np.float32)
        np.savez(samples, x=pixels)
        _convert("cnn", source, bundle, samples, 1)
    with np.load(samples) as data:
        rows = dict(data)
    return Model("cnn", {1: bundle}, unpack(bundle, folder), rows)


def make_cnn_int8(folder: Path) -> Model:
    """The same in int8."""
    from converters import Recipe, convert  # noqa: PLC0415 - only where it is made

    made, bundle = make_cnn(folder), folder / "cnn-int8.edgb"
    if not bundle.exists():
        samples = str(folder / "cnn.npz")
        # The weights are random, so labels hang on a hair: nothing is refused for them.
        recipe = Recipe(
            source=str(folder / "cnn.onnx"), samples=samples, calibration=samples, name="cnn",
            release=1, precision="int8", max_accuracy_drop=1.0,
        )  # fmt: skip
        convert(recipe, bundle, empty_env="off")
    return Model("cnn", {1: bundle}, unpack(bundle, folder), made.rows)


def make_stack(folder: Path, name: str, layers: int) -> Model:
    """So many convolutions on a picture that is made of 16 numbers: small to send, long to run."""
    source, samples, bundle = (folder / f"{name}{end}" for end in (".onnx", ".npz", "-1.edgb"))
    if not bundle.exists():
        source.write_bytes(stack(layers))
        np.savez(samples, x=np.random.default_rng(3).random((16, 16), dtype=np.float32))
        _convert(name, source, bundle, samples, 1)
    with np.load(samples) as data:
        rows = dict(data)
    return Model(name, {1: bundle}, unpack(bundle, folder), rows)


def make_heavy(folder: Path, seed: int, width: int) -> tuple[Path, Path]:
    """Three layers on [N,16] float32 that weigh ``4 * width ** 2`` bytes: a bundle and its ONNX.

    Packed as it is made: a hundred conversions would take longer than all that is measured.
    """
    from converters.pack import member, pack  # noqa: PLC0415 - only where it is made
    from edged.manifest import (  # noqa: PLC0415
        ArtefactEntry,
        Golden,
        Manifest,
        TensorEntry,
        Tolerance,
    )
    from edged.store.golden import write_safetensors  # noqa: PLC0415

    bundle, onnx = folder / f"m{seed}-1.edgb", folder / f"m{seed}.onnx"
    if bundle.exists():
        return bundle, onnx
    chance = np.random.default_rng(seed)
    shapes = ((16, width), (width, width), (width, 4))
    a, b, c = (chance.standard_normal(s).astype(np.float32) / s[0] ** 0.5 for s in shapes)
    onnx.write_bytes(_layers(a, b, c))
    x = chance.standard_normal((4, 16)).astype(np.float32)
    y = np.maximum(np.maximum(x @ a, 0) @ b, 0) @ c
    members = {
        "model.onnx": onnx.read_bytes(),
        "golden.safetensors": write_safetensors({"in.x": x, "out.y": y}),
    }
    kinds = {"model.onnx": "onnx", "golden.safetensors": "safetensors"}
    manifest = Manifest(
        format="edged-bundle-v1",
        name=f"m{seed}",
        release=1,
        version="1",
        inputs=(TensorEntry("x", "float32", ("batch", 16)),),
        outputs=(TensorEntry("y", "float32", ("batch", 4)),),
        artefacts=(ArtefactEntry("onnx", "model.onnx"),),
        members=tuple(member(name, kinds[name], data) for name, data in members.items()),
        golden=Golden("golden.safetensors", 4, {"y": Tolerance(atol=1e-3, rtol=1e-3)}),
    )
    pack(bundle, manifest, members)
    return bundle, onnx


def _layers(*matrices: np.ndarray[Any, Any]) -> bytes:
    from onnx import TensorProto, helper  # noqa: PLC0415

    net = _Graph("x")
    for at, matrix in enumerate(matrices):
        net.add("MatMul", [net.last, net.constant(matrix)])
        if at < len(matrices) - 1:
            net.add("Relu", [net.last])
    net.nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        net.nodes,
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        net.weights,
    )
    opset = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return data


def _train(source: Path, samples: Path, seed: int) -> None:
    import joblib  # noqa: PLC0415 - only where there is something to train
    from sklearn.datasets import load_iris  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    rows, classes = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    network = MLPClassifier((16,), max_iter=1000, tol=1e-3, random_state=seed)
    joblib.dump(network.fit(rows, classes), source)
    np.savez(samples, x=rows)


def _convert(
    name: str, source: Path, bundle: Path, samples: Path, release: int, *more: str
) -> None:
    command = [sys.executable, "-m", "converters.cli", str(source), "-o", str(bundle)]
    command += ["--name", name, "--release", str(release), "--samples", str(samples), *more]
    command += ["--input-name", "x"]
    root = Path(__file__).resolve().parent.parent
    subprocess.run(command, check=True, cwd=root, stdout=subprocess.DEVNULL)


def unpack(bundle: Path, folder: Path) -> Path:
    """The model file of a bundle, which is a plain zip."""
    import zipfile  # noqa: PLC0415

    with zipfile.ZipFile(bundle) as archive:
        data = archive.read("model.onnx")
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.onnx"
    path.write_bytes(data)
    return path


class _Graph:
    """A network that grows at its end."""

    def __init__(self, name: str) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = name
        self._rng = np.random.default_rng(1)

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper  # noqa: PLC0415

        self.last = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [self.last], **attributes))
        return self.last

    def constant(self, array: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper  # noqa: PLC0415

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(
        self, taken: int, given: int, size: int, stride: int = 1, groups: int = 1, *, clip: bool
    ) -> str:
        """A convolution, its folded normalisation (a bias), and ReLU6."""
        fan = taken // groups * size * size
        # He's scale keeps values alive through all layers: denormal numbers would be slow ones.
        kernel = self._rng.normal(0, (2 / fan) ** 0.5, (given, taken // groups, size, size))
        names = [self.last, self.constant(kernel), self.constant(np.full(given, 0.05))]
        pads = [size // 2] * 4
        self.add("Conv", names, strides=[stride] * 2, pads=pads, group=groups)
        if clip:
            self.add("Clip", [self.last, *self._bounds()])
        return self.last

    def _bounds(self) -> list[str]:
        return [self.constant(np.array(0.0)), self.constant(np.array(6.0))]


def mobilenet() -> bytes:
    """An ONNX file of MobileNetV2's shape with random weights: x [N,3,224,224] to y [N,1000]."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    net = _Graph("x")
    channels = 32
    net.conv(3, channels, 3, 2, clip=True)
    for expansion, given, repeats, stride in _BLOCKS:
        for index in range(repeats):
            _block(net, channels, given, expansion, stride if index == 0 else 1)
            channels = given
    net.conv(channels, 1280, 1, clip=True)
    net.add("GlobalAveragePool", [net.last])
    net.add("Flatten", [net.last])
    matrix = np.random.default_rng(4).normal(0, 0.002, (1280, 1000))
    net.add("Gemm", [net.last, net.constant(matrix), net.constant(np.zeros(1000))])
    net.nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        net.nodes,
        "mobilenet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1000])],
        net.weights,
    )
    opset = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return data


def stack(layers: int) -> bytes:
    """An ONNX file: x [N,16], made 32 channels of 48 x 48 by a matrix, convolutions, y [N,32]."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    net = _Graph("x")
    channels, side = 32, 48
    matrix = np.random.default_rng(4).normal(0, 0.3, (16, channels * side * side))
    net.add("MatMul", ["x", net.constant(matrix)])
    net.weights.append(numpy_helper.from_array(np.array([0, channels, side, side]), "shape"))
    net.add("Reshape", [net.last, "shape"])
    for _ in range(layers):
        net.conv(channels, channels, 3, clip=True)
    net.add("GlobalAveragePool", [net.last])
    net.add("Flatten", [net.last])
    net.nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        net.nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", channels])],
        net.weights,
    )
    opset = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    return data


def _block(net: _Graph, taken: int, given: int, expansion: int, stride: int) -> None:
    """An inverted residual."""
    start, wide = net.last, taken * expansion
    if expansion > 1:
        net.conv(taken, wide, 1, clip=True)
    net.conv(wide, wide, 3, stride, wide, clip=True)
    net.conv(wide, given, 1, clip=False)
    if stride == 1 and taken == given:
        net.add("Add", [start, net.last])
