"""Which devices there are to convert for, and what each reads: ONNX Runtime, opset, IR, TensorRT.

Words and numbers only; imports nothing heavy, because the command line's help lists the names.
Sources: the limits of ONNX Runtime 1.23.2, 1.28.0 and 1.32.0, asked of them; JetPack's release
pages; the operators page of onnx-tensorrt (10.15 says opset 9 to 24, 10.0 says 9 to 20).
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.errors import ConversionError

DEFAULT_TARGET = "cpu"
DEFAULT_OPSET = 18
"""Read by every runtime in use: ONNX Runtime 1.14 and later, TensorRT 10 and 11."""
MIN_OPSET = 13
"""Older sets lack what quantisation and free axes need."""


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Args:
        name: as ``--for`` takes it.
        title: what it is, for people.
        python: the Python it runs.
        onnxruntime: the version that is held to be there: the oldest it may have, because what
            that one takes the later ones take too.
        max_opset: the highest set of ``ai.onnx`` that this ONNX Runtime has complete.
        max_ml_opset: the same for ``ai.onnx.ml``.
        max_ir: the highest IR version written for it.
        tensorrt: the TensorRT that may build engines there; None without one.
        tensorrt_max_opset: the highest opset that its parser takes.
    """

    name: str
    title: str
    python: str
    onnxruntime: str
    max_opset: int
    max_ml_opset: int
    max_ir: int
    tensorrt: str | None = None
    tensorrt_max_opset: int | None = None

    def to_fields(self) -> dict[str, object]:
        """For the manifest's provenance and the report."""
        fields: dict[str, object] = {"name": self.name, "onnxruntime": self.onnxruntime}
        if self.tensorrt:
            fields["tensorrt"] = self.tensorrt
        return fields


# NOTE: IR 10 everywhere, though ONNX Runtime 1.23 reads 11 and 1.32 reads 14: nothing above 10 is
# needed below opset 24, and TensorRT's parser and other tools lag behind.
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("cpu", "any CPU, Python 3.10 and later", "3.10", "1.23.2", 23, 5, 10),
        Target("cpu-py311", "any CPU, Python 3.11 and later", "3.11", "1.32.0", 28, 5, 10),
        Target("jetpack6", "Jetson with JetPack 6", "3.10", "1.23.2", 23, 5, 10, "10.3", 20),
        Target("jetpack7", "Jetson with JetPack 7", "3.12", "1.28.0", 24, 5, 10, "10.16", 24),
    )
}


def find_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ConversionError: there is none; lists those there are.
    """
    if name not in TARGETS:
        listed = ", ".join(f"{t.name} ({t.title})" for t in TARGETS.values())
        raise ConversionError(f'no target "{name}"; there are {listed}')
    return TARGETS[name]
