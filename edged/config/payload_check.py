"""Whether what a binding says of its payloads goes together."""

from __future__ import annotations

from collections.abc import Iterator

from edged.config.binding import BindingConfig

_DOCUMENTS = {"json", "cbor", "msgpack", "protobuf", "sparkplug"}
_BOUNDED = {"json", "cbor", "msgpack", "image", "protobuf", "sparkplug", "auto"}
"""Those whose first bytes cannot be taken for a compressed payload's."""
_LEAST_NS, _MOST_NS = 10**6, 3650 * 24 * 3600 * 10**9


def payload_problems(binding: BindingConfig, path: str) -> Iterator[tuple[str, str]]:
    """Field paths and what is wrong there.

    Args:
        binding: as written.
        path: of the binding.
    """
    codec = binding.codec
    accepted = set(binding.accept or ("json",)) if codec == "auto" else {codec}
    if binding.fields and not accepted & _DOCUMENTS:
        yield f"{path}.fields", f"are paths, but the codec is {codec}; remove them"
    elif binding.fields and not accepted <= _DOCUMENTS:
        others = ", ".join(sorted(accepted - _DOCUMENTS))
        yield f"{path}.accept", f"{others} has no fields; remove it, or `fields`"
    if binding.accept and codec != "auto":
        yield f"{path}.accept", f"belongs to `codec: auto`, not to {codec}; remove it"
    if len(set(binding.accept)) != len(binding.accept):
        yield f"{path}.accept", "names a codec twice"
    if codec == "protobuf" and binding.schema is None:
        yield f"{path}.codec", "protobuf needs `schema: {descriptors, message}`; add it"
    if codec != "protobuf" and binding.schema is not None:
        yield f"{path}.schema", f"belongs to `codec: protobuf`, not to {codec}; remove it"
    if binding.compression == "auto" and not (accepted | {codec}) <= _BOUNDED:
        text = "bytes of such a codec may begin as compressed ones do; write gzip, zstd or none"
        yield f"{path}.compression", text
    if "tensor" in accepted and (binding.window is not None or binding.join):
        yield f"{path}.codec", "tensors are whole inputs, which no window or join is made of"
    age = binding.max_age
    if age is not None and not accepted <= _DOCUMENTS:
        yield f"{path}.max_age", f"needs a document to look into, but the codec is {codec}"
    if age is not None and not _LEAST_NS <= age.within <= _MOST_NS:
        yield f"{path}.max_age.within", "is outside what can work; expected 1ms to 87600h"
