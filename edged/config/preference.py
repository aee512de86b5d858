"""The runtimes that may be named, and whether their order is a wish or a must."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

BuiltInRuntime = Literal[
    "onnxruntime",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "openvino",
    "openvino-gpu",
    "openvino-npu",
    "tensorrt",
    "onnxruntime-genai",
]
"""The names of ``runtimes/registry.py``, which no other room of this floor may import."""
RuntimeName = BuiltInRuntime | Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,31}\Z")]
"""Also that of an installed package; whether there is one is asked where packages are known."""
FallbackPolicy = Annotated[
    Literal["allow", "deny"],
    Meta(description="deny: only the first of runtime may serve; else the model fails and says so"),
]


def may_serve(
    runtimes: Literal["auto"] | Sequence[str], fallback: FallbackPolicy
) -> Literal["auto"] | tuple[str, ...]:
    """The runtimes of a model's list that it may serve on, best first; ``auto`` as it is."""
    if isinstance(runtimes, str):
        return "auto"
    return tuple(runtimes[:1] if fallback == "deny" else runtimes)
