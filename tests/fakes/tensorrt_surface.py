"""What the real bindings of TensorRT have, of the classes that the fake plays, by release.

``tensorrt_surface.json`` is made from the bindings themselves, by

    python -m tests.fakes.tensorrt_surface build/tensorrt

(``make test-all`` brings the wheels), and CI makes it anew and compares. The fake builds its classes
out of it (``build``): one has exactly the members of its release, so code that calls another fails in
the tests as it would on a device.
"""

from __future__ import annotations

import enum
import functools
import inspect
import json
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes import tensorrt_stubs as stubs

FILE = Path(__file__).with_name("tensorrt_surface.json")
CLASSES = (
    *("Builder", "EngineInspector", "IBuilderConfig", "ICudaEngine", "IExecutionContext"),
    *("ILayer", "ILogger", "INetworkDefinition", "IOptimizationProfile", "ITensor"),
    *("ITimingCache", "OnnxParser", "ParserError", "Runtime"),
)
ENUMS = (
    *("BuilderFlag", "DataType", "DeviceType", "HardwareCompatibilityLevel", "ILogger.Severity"),
    *("LayerInformationFormat", "LayerType", "MemoryPoolType", "NetworkDefinitionCreationFlag"),
    *("PreviewFeature", "ProfilingVerbosity", "TensorIOMode"),
)
FUNCTIONS = ("get_nv_onnx_parser_version",)
Surface = dict[str, dict[str, dict[str, str]]]
"""Class → member → what it is: ``property``, ``read-only``, ``value``, an enum's number, or the
parameters of a call, an overload each: ``(name) (name, shape)``."""


def collect(dumps: Mapping[str, Any]) -> dict[str, Surface]:
    """The surface of every release out of what ``tensorrt_stubs.dump`` gives for it."""
    return {release: _surface(dumped) for release, dumped in dumps.items()}


def _surface(dumped: Any) -> Surface:
    surface: Surface = {"": dict.fromkeys(set(FUNCTIONS) & set(dumped["functions"]), "()")}
    for name in (*CLASSES, *ENUMS):
        members = dumped["classes"].get(name, {})
        is_enum = name in ENUMS
        surface[name] = {
            member: _kind(*what)
            for member, what in members.items()
            if not member.startswith("_") and (what[0] == "member") == is_enum
        }
    return surface


def _kind(kind: str, said: str) -> str:
    if kind != "call":
        return said if kind == "member" else kind
    return " ".join(f"({', '.join(names)})" for names in stubs.signatures(said)) or "()"


def encode(surfaces: Mapping[str, Surface]) -> str:
    """The file's text: class → member → what it is → the releases in which it is that."""
    merged: dict[str, dict[str, dict[str, str]]] = {}
    for release, surface in surfaces.items():
        for name, members in surface.items():
            for member, kind in members.items():
                kinds = merged.setdefault(name, {}).setdefault(member, {})
                kinds[kind] = f"{kinds[kind]} {release}" if kind in kinds else release
    lines = []
    for name, members in sorted(merged.items()):
        rows = [f'  "{m}": {json.dumps(kinds)}' for m, kinds in sorted(members.items())]
        lines.append(f' "{name}": {{\n' + ",\n".join(rows) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


@functools.cache
def read(release: str) -> Surface:
    """The surface of one release, from the file; the same object every time."""
    found: Surface = {}
    for name, members in json.loads(FILE.read_text("utf-8")).items():
        found[name] = {
            member: kind
            for member, kinds in members.items()
            for kind, releases in kinds.items()
            if release in releases.split()
        }
    return found


class Number(enum.Enum):
    """As the bindings' enums: no number itself, but made into one by ``int()``."""

    def __int__(self) -> int:
        return int(self.value)


def build(surface: Surface, behaviours: Mapping[str, type]) -> types.SimpleNamespace:
    """The package: every class with the members of the surface, and no others.

    Args:
        surface: of one release.
        behaviours: what the classes do, by name. A member that the release lacks is not taken over;
            one that a behaviour lacks fails the test that asks for it.
    """
    trt = types.SimpleNamespace()
    for name in ENUMS:
        numbers = {member: int(number) for member, number in surface[name].items()}
        if "." not in name:
            setattr(trt, name, Number(name, numbers))
    for name in CLASSES:
        setattr(trt, name, _make(name, surface[name], behaviours[name], trt))
    severities = {member: int(n) for member, n in surface["ILogger.Severity"].items()}
    trt.ILogger.Severity = Number("Severity", severities)
    for member in trt.ILogger.Severity:
        setattr(trt.ILogger, member.name, member)
    for name in surface[""]:
        setattr(trt, name, behaviours[name])
    return trt


def public(behaviour: type) -> set[str]:
    """The members that a behaviour plays."""
    return {name for name in dir(behaviour) if not name.startswith("_")}


def _make(name: str, members: Mapping[str, str], behaviour: type, trt: Any) -> type:
    played = public(behaviour)

    def guard(self: Any, attribute: str, value: Any) -> None:
        is_ours = type(self) is made and not attribute.startswith("_")
        if is_ours and members.get(attribute) != "property":
            raise AttributeError(f"{name} has no {attribute} that could be set")
        object.__setattr__(self, attribute, value)

    namespace = {
        member: _refusing(name, member, AssertionError) for member in set(members) - played
    }
    namespace |= {
        member: _refusing(name, member, AttributeError) for member in played - set(members)
    }
    made = type(name, (behaviour,), {**namespace, "__setattr__": guard, "_trt": trt})
    return made


def _refusing(name: str, member: str, error: type[Exception]) -> property:
    why = "is not played by the fake" if error is AssertionError else "is not in this release"

    def refuse(_self: Any) -> Any:
        raise error(f"{name}.{member} {why}")

    return property(refuse)


def parameters(call: Any) -> list[str]:
    """Names of a behaviour's parameters."""
    return [each for each in inspect.signature(call).parameters if each != "self"]


def dump_all(wheels: Path, folder: Path) -> dict[str, Any]:
    """What the real bindings of all releases have."""
    return {name: stubs.dump(stubs.unpack(wheels, name, folder / name)) for name in stubs.RELEASES}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as unpacked:
        dumped = dump_all(Path(sys.argv[1]), Path(unpacked))
    FILE.write_text(encode(collect(dumped)), "utf-8")
