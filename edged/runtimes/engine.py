"""An engine as a file: the plan that TensorRT built, and everything that says where it may run.

A plan is machine code for one GPU and one release. Decides whether one was built for here, and
says what differs; never loads it. The bytes: ``EDGEDENG``, a version, the length of the head, the
head as JSON, the plan. A plan is as good as a program: whoever reads a file here has checked that
it is ours.
"""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edged import decoding
from edged.errors import LoadError

if TYPE_CHECKING:
    from edged.runtimes.cuda import Device

_MAGIC = b"EDGEDENG"
_FORMAT = 1
_HEAD_CAP_BYTES = 4 << 20
"""Layers of the largest networks by name; a head that is longer is none."""
_CONTEXT_BYTES = 256 << 20
"""What CUDA and TensorRT take on the device before the first engine; it varies by GPU."""


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a plan is bound to. One built elsewhere runs where all of these are the same.

    Args:
        product: ``TensorRT`` or ``TensorRT-RTX``.
        tensorrt: its version in full.
        parser: version of its ONNX parser.
        system: operating system and processor, e.g. ``Linux aarch64``.
        compute_capability: e.g. ``8.7``.
        gpu: its name; equal names with other numbers of processors are other chips.
        processors: of the GPU.
        cuda: newest CUDA of the driver.
        driver: version of the kernel driver; equal GPUs with others have refused a plan.
        l4t: release of Jetson's Linux; empty elsewhere.
    """

    product: str
    tensorrt: str
    parser: str
    system: str
    compute_capability: str
    gpu: str
    processors: int
    cuda: str
    driver: str
    l4t: str


class BuildOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to build.

    Args:
        max_batch: rows of the largest batch.
        usual_batch: rows that it is tuned for; 0 for the largest.
        axes: for free axes other than the batch, by name: shortest, usual and longest.
        workspace_bytes: memory on the device that a layer may use for itself.
        level: how long to search, 0 to 5; 3 is TensorRT's own default.
        is_version_compatible: also run on later releases of the same major, at some cost in speed.
        hardware: ``none``, ``ampere_plus`` or ``same_compute_capability``: run on more GPUs.
        tf32: round float32 to ten bits where that is faster; golden samples are made without.
        exact: numbers of rows that get a profile of their own beside, tuned for just that.
        dla: place it on that core of a Jetson's deep learning accelerator as far as it can, always
            with ``max_batch`` rows; -1 for the GPU alone.
    """

    max_batch: int = 8
    usual_batch: int = 0
    axes: dict[str, tuple[int, int, int]] = {}
    workspace_bytes: int = 1 << 30
    level: int = 3
    is_version_compatible: bool = False
    hardware: str = "none"
    tf32: bool = False
    exact: tuple[int, ...] = ()
    dla: int = -1


class Io(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input or output of the engine, with its shortest, usual and longest shape.

    ``more`` has the same three of each further profile.
    """

    name: str
    dtype: str
    is_input: bool
    shape: tuple[int, ...]
    range: tuple[tuple[int, ...], ...] = ()
    more: tuple[tuple[tuple[int, ...], ...], ...] = ()


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where an engine may run, of what it was built, and how.

    Args:
        host: what it is bound to.
        onnx_sha256: of the model it was built from.
        plan_sha256: of the plan itself.
        plan_bytes: its size.
        options: of the build, as they were given.
        flags: names of the builder's flags that were set.
        asked: layers of the graph by the element type of what they compute.
        built: layers of the engine likewise, as TensorRT's inspector tells; empty where it tells
            nothing.
        io: inputs and outputs.
        timing_cache_sha256: of the cache the build began with; empty without one.
        device_bytes: memory that a context of it needs on the device; 0 where not told.
        seconds: the build took.
        parity: the largest difference from the bundle's golden outputs, by output; empty before
            it was held against them.
        placed: layers that may run on the ``dla`` that was asked for, and the rest, which run on
            the ``gpu``; empty without one.
    """

    host: Host
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    options: BuildOptions
    flags: tuple[str, ...]
    asked: dict[str, int]
    built: dict[str, int]
    io: tuple[Io, ...]
    timing_cache_sha256: str
    device_bytes: int
    seconds: float
    parity: dict[str, float] = {}
    placed: dict[str, int] = {}


class Engine(msgspec.Struct, frozen=True):
    """A plan and its fingerprint."""

    fingerprint: Fingerprint
    plan: bytes

    def encode(self) -> bytes:
        """As a file."""
        head = msgspec.json.encode(self.fingerprint, order="deterministic")
        start = _MAGIC + _FORMAT.to_bytes(4, "little") + len(head).to_bytes(4, "little")
        return b"".join([start, head, self.plan])


def is_engine(data: bytes) -> bool:
    """Whether a file says that it is one."""
    return data.startswith(_MAGIC)


def decode(data: bytes) -> Engine:
    """Read a file, and check that its plan is the one that was written.

    Raises:
        LoadError: it is no engine, of another format, cut short or changed.
    """
    if not is_engine(data) or len(data) < 16:
        raise LoadError("this is no engine file of edged")
    number, length = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    if number != _FORMAT:
        raise LoadError(f"the engine file has format {number}; this edged reads {_FORMAT}: rebuild")
    if length > min(_HEAD_CAP_BYTES, len(data) - 16):
        raise LoadError(f"the engine file is cut short: its head has {length} bytes")
    try:
        fingerprint = decoding.decode(data[16 : 16 + length], Fingerprint)
    except msgspec.DecodeError as exc:
        raise LoadError(f"the engine file's head does not read: {exc}; rebuild") from exc
    plan = data[16 + length :]
    if len(plan) != fingerprint.plan_bytes:
        raise LoadError(
            f"the engine file is cut short: its plan has {len(plan)} of "
            f"{fingerprint.plan_bytes} bytes; rebuild"
        )
    if sha256(plan) != fingerprint.plan_sha256:
        raise LoadError("the engine file was changed: its plan has another sha256; rebuild")
    return Engine(fingerprint, plan)


def engine_bytes(data: bytes) -> int:
    """Upper bound of what an engine file takes on the device, without the tensors of a run."""
    return 2 * len(data) + _CONTEXT_BYTES


def differences(built: Host, here: Host) -> list[str]:
    """What an engine's host has that this one has not, in words; empty when it may run here."""
    return [
        f"{name.replace('_', ' ')} {getattr(built, name) or 'none'} "
        f"(here: {getattr(here, name) or 'none'})"
        for name in Host.__struct_fields__
        if getattr(built, name) != getattr(here, name)
    ]


def host_of(
    product: str, version: str, parser: str, device: Device, root: Path = Path("/")
) -> Host:
    """This machine, for the package that is here."""
    return Host(
        product=product,
        tensorrt=version,
        parser=parser,
        system=f"{platform.system()} {platform.machine()}",
        compute_capability=device.compute_capability,
        gpu=device.name,
        processors=device.processors,
        cuda=device.driver,
        driver=_driver(root),
        l4t=_l4t(root),
    )


def sha256(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _driver(root: Path) -> str:
    if said := _text(root / "sys/module/nvidia/version").strip():
        return said
    match = re.search(r"Module\s.*?([0-9]+\.[0-9.]+)", _text(root / "proc/driver/nvidia/version"))
    return match[1] if match else ""


def _l4t(root: Path) -> str:
    match = re.match(
        r"# R(\d+) \(release\), REVISION: ([0-9.]+)", _text(root / "etc/nv_tegra_release")
    )
    return f"{match[1]}.{match[2]}" if match else ""
