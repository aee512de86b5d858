"""Which runtimes there are: a name in a configuration becomes a Runtime.

Decides nothing about which one a model gets. Importing this file imports no backend; making a
runtime imports that one file, and only loading a model imports the backend's package. A name that
is not built in is that of an installed package (``installed.py``), if one gives it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from edged.runtimes.base import Runtime
from edged.runtimes.installed import Offer, installed_names, look_again, look_at, offer_of
from edged.system.cores import usable

ARTEFACT_KINDS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnx",),
    "onnxruntime-cuda": ("onnx",),
    "onnxruntime-tensorrt": ("onnx",),
    "openvino": ("openvino", "onnx"),
    "openvino-gpu": ("openvino", "onnx"),
    "openvino-npu": ("openvino", "onnx"),
    "tensorrt": ("tensorrt",),
    "onnxruntime-genai": ("genai",),
}
"""For each runtime's name, which kinds of artefact of a bundle it takes, the best first."""
APART = frozenset({"tensorrt"})
"""Runtimes whose models are machine code: their sessions live in worker processes whatever a
model's ``isolation`` is. Outside of a worker they say what is here and load nothing."""
COMPUTES_IN = {"openvino": "float32", "openvino-gpu": "float32", "openvino-npu": "float16"}
"""What a runtime is told to compute floats in that would else choose by itself. It refuses to load
a model for which it does not; what is quantised in a model file stays so."""
DEVICES = {
    "onnxruntime": "cpu",
    "onnxruntime-cuda": "cuda",
    "onnxruntime-tensorrt": "cuda",
    "openvino": "cpu",
    "openvino-gpu": "gpu",
    "openvino-npu": "npu",
    "tensorrt": "cuda",
    "onnxruntime-genai": "cpu",
}
"""For each runtime's name, what its runs keep busy."""
LINES = {"onnxruntime-genai": "texts"}
"""Runtimes whose runs wait in a line of their own. A text takes seconds: it would keep a slot of
the device from other models, where the kernel lets its process and theirs share the cores."""
RUNTIME_NAMES = tuple(ARTEFACT_KINDS)
"""Every name that is built in."""
AUTO = "auto"
"""What a configuration says in place of names where the device is to find out."""
_HOST = "cpu"


def create_runtime(name: str, *, threads: int, is_expendable: bool = False) -> Runtime:
    """Make a runtime by its name; one that is not there says so itself, in ``info`` and ``load``.

    Args:
        name: of RUNTIME_NAMES, or of an installed package.
        threads: threads of one run; 0 for one a core.
        is_expendable: whether this process may come to harm: only such a one loads what stands in
            APART, or imports a package without looking at it in another one first.
    """
    if name == "onnxruntime":
        from edged.runtimes.onnxruntime import OnnxRuntime  # noqa: PLC0415 - only what is used

        return OnnxRuntime(threads=threads)
    if name == "onnxruntime-cuda":
        from edged.runtimes.onnxruntime_cuda import OnnxCudaRuntime  # noqa: PLC0415

        return OnnxCudaRuntime(threads=threads)
    if name == "onnxruntime-tensorrt":
        from edged.runtimes.onnxruntime_tensorrt import OnnxTensorRtRuntime  # noqa: PLC0415

        return OnnxTensorRtRuntime(threads=threads)
    if name in ("openvino", "openvino-gpu", "openvino-npu"):
        from edged.runtimes.openvino import OpenVinoRuntime  # noqa: PLC0415

        return OpenVinoRuntime(threads=threads, name=name)
    if name == "tensorrt" and is_expendable:
        from edged.runtimes.tensorrt import TensorRtRuntime  # noqa: PLC0415

        return TensorRtRuntime(threads=threads)
    if name == "tensorrt":
        from edged.runtimes.tensorrt_host import TensorRtApart  # noqa: PLC0415

        return TensorRtApart()
    if name == "onnxruntime-genai":
        from edged.runtimes.onnxruntime_genai import GenaiRuntime  # noqa: PLC0415

        return GenaiRuntime(threads=threads)
    from edged.runtimes.foreign import ForeignRuntime, describe  # noqa: PLC0415

    return ForeignRuntime(name, threads=threads, offer=describe if is_expendable else look_again)


def is_runtime(name: str) -> bool:
    """Whether a name is built in, or given by an installed package; imports neither."""
    return name in ARTEFACT_KINDS or name in installed_names()


def kinds_of(name: str) -> tuple[str, ...]:
    """Which kinds of artefact a runtime takes, the best first; none where it is not there."""
    return ARTEFACT_KINDS[name] if name in ARTEFACT_KINDS else offer_of(name).kinds


def device_of(name: str) -> str:
    """What the runs of a runtime keep busy; the processor where it is not there."""
    return DEVICES[name] if name in DEVICES else _offer(name).device


def computed_in(name: str) -> str:
    """What a runtime is told to compute floats in; empty where it keeps to the model."""
    return COMPUTES_IN.get(name, "") if name in ARTEFACT_KINDS else _offer(name).computes_in


def problem_of(name: str) -> str:
    """Why a package's runtime cannot be used, as of now; empty when it can, or is built in.

    May take seconds: a child looks at what failed before.
    """
    return "" if name in ARTEFACT_KINDS else look_again(name).problem


def names_of(runtime: str | Sequence[str]) -> tuple[str, ...]:
    """The runtimes that a model may run on, the best first as far as nothing was measured.

    Args:
        runtime: names, or ``auto`` for all there are; then what is made for accelerators is first,
            and packages are looked at. What makes texts is always named.
    """
    if isinstance(runtime, str):
        every = [name for name in _all_names() if name not in LINES]
        return tuple(sorted(every, key=lambda name: device_of(name) == _HOST))
    return tuple(runtime)


def home_of(runtime: str | Sequence[str]) -> str:
    """The device in whose memory a model is counted: that of its first runtime.

    Before anything is measured nobody knows where ``auto`` ends; whatever runs takes the host's.
    """
    return _HOST if isinstance(runtime, str) or not runtime else device_of(runtime[0])


def all_offers() -> list[Offer]:
    """What each runtime says of itself on this machine, each asked in a child of its own.

    For people: a library that crashes or hangs is told like one that is not there. Never raises.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for this alone

    installed = installed_names()

    def ask(name: str) -> Offer:
        if name not in RUNTIME_NAMES:
            return offer_of(name)
        offer = look_at(name, name, "install its package again")
        if name not in installed:
            return offer
        shadow = "an installed package gives a runtime of this name, which is not used"
        return replace(offer, note="; ".join(filter(None, (offer.note, shadow))))

    with ThreadPoolExecutor(len(usable())) as pool:
        return list(pool.map(ask, _all_names()))


def _all_names() -> list[str]:
    return [*RUNTIME_NAMES, *(name for name in installed_names() if name not in RUNTIME_NAMES)]


def _offer(name: str) -> Offer:
    # A release that is not loaded has no runtime yet.
    return offer_of(name) if name else Offer(name)
