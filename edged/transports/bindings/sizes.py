"""Whether what a binding takes and says can pass its brokers, by the sizes of the model's tensors.

Decides by the least that a message of one row can have: what is refused here would never pass. What
may be larger is held when it is. Free axes but that of rows count as empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from edged.config.binding import BindingConfig
from edged.config.mqtt import MqttConfig
from edged.errors import FieldError
from edged.manifest import Manifest, ManifestOf
from edged.processing.outputs import shown_outputs, shows_ranking
from edged.tensors import ALL_DTYPES, BATCH, TensorSpec, size_bytes
from edged.transports.bindings.binding import Binding

_VALUE_BYTES = {"json": 2, "cbor": 1, "msgpack": 1}
"""Of one number in a document, at least: a digit and a comma, or a byte."""

_SHOWN = 5


class Limits(NamedTuple):
    """The longest packets, as brokers said or the operator; None where nobody knows.

    Args:
        brings: of the broker of requests.
        gets: of the broker that gets answers on `to`.
    """

    brings: int | None
    gets: int | None


def stated_limits(mqtt: MqttConfig) -> Limits:
    """As the operator says."""
    sizes = [None if one is None else one.max_packet_size for one in (mqtt, mqtt.results or mqtt)]
    brings, gets = (None if size is None else int(size) for size in sizes)
    return Limits(brings, gets)


def size_problems(config: BindingConfig, manifest: Manifest, limits: Limits) -> Iterator[str]:
    """What can never pass, in words."""
    asked = least_request(config, manifest)
    if limits.brings is not None and asked > limits.brings:
        text = f"a request of one row has at least {asked} bytes, and its broker takes"
        yield f"{text} {limits.brings}"
    limit = limits.gets if config.to is not None else limits.brings
    said = least_answer(config, manifest)
    if limit is not None and said > limit:
        text = f"an answer has at least {said} bytes, and the broker takes {limit}"
        yield f"{text}: each would be a dead letter"


def check_sizes(configs: Sequence[BindingConfig], of: ManifestOf, mqtt: MqttConfig) -> None:
    """Refuse what can never pass by what the operator says of the brokers.

    Raises:
        FieldError: with the path ``bindings[i]``.
    """
    limits = stated_limits(mqtt)
    for index, config in enumerate(configs):
        model, _, selector = config.model.partition("@")
        manifest = of(model, int(selector) if selector.isdecimal() else selector or None)
        for text in size_problems(config, manifest, limits) if manifest is not None else ():
            raise FieldError(f"bindings[{index}]", f"{text} (max_packet_size)")


def oversized(bindings: tuple[Binding, ...], of: ManifestOf, limits: Limits) -> Iterator[str]:
    """Bindings and what of them can never pass."""
    for binding in bindings:
        manifest = of(binding.model, binding.release)
        for text in size_problems(binding.config, manifest, limits) if manifest else ():
            yield f"binding {binding.name}: {text}"


class Measured(Protocol):
    """Whoever knows what a broker takes."""

    @property
    def max_packet_bytes(self) -> int | None:
        """The longest packet; None while that is not known."""
        ...


def live_problem(
    bindings: tuple[Binding, ...], of: ManifestOf, brings: Measured, gets: Measured | None
) -> str:
    """What can never pass by what the brokers said, in words; empty for nothing."""
    limits = Limits(brings.max_packet_bytes, (gets or brings).max_packet_bytes)
    return "; ".join(list(oversized(bindings, of, limits))[:_SHOWN])


def least_request(config: BindingConfig, manifest: Manifest) -> int:
    """Bytes of the shortest message that has a row; 0 where that cannot be said."""
    if config.compression != "none" or config.window is not None or config.sequence is not None:
        return 0
    inputs = manifest.input_specs()
    if config.codec == "raw":
        named = [one for one in inputs if config.input in {None, one.name}]
        return _bytes(named[0]) if len(named) == 1 else 0
    return sum(map(_bytes, inputs)) if config.codec == "tensor" else 0


def least_answer(config: BindingConfig, manifest: Manifest) -> int:
    """Bytes of the shortest answer; 0 where that cannot be said."""
    output = config.output
    if config.stream:
        return 0
    outputs = shown_outputs(output, manifest)
    if output.codec == "raw":
        return _bytes(outputs[0]) if outputs else 0
    if output.codec == "tensor":
        return sum(map(_bytes, outputs))
    texts = {name for name, work in manifest.output_processing.items() if work.text is True}
    if shows_ranking(output, manifest):
        return 0
    each = _VALUE_BYTES[output.codec]
    return each * sum(_count(one) for one in outputs if one.name not in texts)


def _shape(spec: TensorSpec) -> list[int]:
    return [axis if isinstance(axis, int) else int(axis == BATCH) for axis in spec.shape]


def _bytes(spec: TensorSpec) -> int:
    return size_bytes(spec.dtype, _shape(spec))


def _count(spec: TensorSpec) -> int:
    width = ALL_DTYPES[spec.dtype].size_bytes
    return size_bytes(spec.dtype, _shape(spec)) // width if width else 0
