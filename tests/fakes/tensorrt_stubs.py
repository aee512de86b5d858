"""The real Python bindings of TensorRT over libraries that hold nothing, to see what members they have.

The bindings need a dozen C functions of the libraries they are linked against; a stub of each library
exports them and returns nothing. So the packages import without TensorRT, GPU or driver, and tell every
class, member and signature. ``dump`` runs in a process of its own for each release, because all are one
module to Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

RELEASES = {
    "8.6": "tensorrt_bindings==8.6.1",
    "10.3": "tensorrt_cu12_bindings==10.3.0",
    "10.16": "tensorrt_cu12_bindings==10.16.1.11",
    "11.4": "tensorrt_cu12_bindings==11.4.0.106",
}
"""The oldest that is supported, JetPack 6's, JetPack 7's, and the newest; about 1.3 MB each."""
_FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL"),
    *("getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry"),
    "initLibNvInferPlugins",
    # Of 8.6 alone: parsers of formats that later releases dropped, under the names C++ gave them.
    *("_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi"),
    *("_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv"),
)
_LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")

DUMP = """
import inspect, json, sys
import tensorrt_bindings as trt
surface = {}
for name in dir(trt):
    what = getattr(trt, name)
    if name.startswith("_") or not inspect.isclass(what):
        continue
    members = {}
    for member in dir(what):
        if member.startswith("__") and member != "__init__":
            continue
        found = inspect.getattr_static(what, member)
        kind = "property" if isinstance(found, property) else "call" if callable(getattr(what, member)) else "value"
        if isinstance(found, property) and found.fset is None:
            kind = "read-only"
        members[member] = [kind, (getattr(what, member).__doc__ or "")[:2000] if kind == "call" else ""]
    for member in getattr(what, "__members__", {}):
        members[member] = ["member", str(int(what.__members__[member]))]
    for inner in members:
        numbers = getattr(getattr(what, inner), "__members__", {}) if inner[0].isupper() else {}
        if numbers:
            surface[name + "." + inner] = {m: ["member", str(int(n))] for m, n in numbers.items()}
    surface[name] = members
functions = [name for name in dir(trt) if callable(getattr(trt, name)) and not inspect.isclass(getattr(trt, name))]
json.dump({"version": trt.__version__, "classes": surface, "functions": functions}, sys.stdout)
"""


def problem() -> str:
    """Why this cannot be done here; empty when it can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the wheels that are looked at are for Linux on x86-64"
    return "" if shutil.which("cc") else "no C compiler (cc) to make the stubs with"


def download(folder: Path) -> None:
    """Put the wheels of this Python into ``folder``; what is there already is not fetched again.

    A release that has none for this Python is left out: its tests say so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for wanted in RELEASES.values():
        if not _wheel(folder, wanted):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--quiet", "--no-deps"]
            more = ["--only-binary=:all:", "--dest", str(folder), wanted]
            subprocess.run([*command, *more], check=False)


def _wheel(folder: Path, wanted: str) -> Path | None:
    name, _, version = wanted.partition("==")
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return next(iter(folder.glob(f"{name}-{version}-{tag}-*x86_64.whl")), None)


def have(folder: Path, release: str) -> bool:
    """Whether the wheel of a release is there for this Python."""
    return _wheel(folder, RELEASES[release]) is not None


def unpack(folder: Path, release: str, into: Path) -> Path:
    """The bindings of a release and stubs of its libraries; gives the folder for PYTHONPATH."""
    wheel = _wheel(folder, RELEASES[release])
    assert wheel is not None, release
    into.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into)
    source = into / "stub.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in _FUNCTIONS))
    major = release.split(".", maxsplit=1)[0]
    for name in _LIBRARIES:
        library = into / f"lib{name}.so.{major}"
        command = ["cc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{library.name}"]
        subprocess.run([*command, "-o", str(library), str(source)], check=True)
    return into


def run(into: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that imports the unpacked bindings."""
    paths = os.pathsep.join([str(into), *(entry for entry in sys.path if entry)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"LD_LIBRARY_PATH": str(into), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def dump(into: Path) -> dict[str, Any]:
    """Every class of the unpacked bindings with its members.

    A member is a pair: ``call``, ``property``, ``read-only``, ``value`` or ``member`` (of an enum),
    and its signature or number.
    """
    done = run(into, DUMP)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def signatures(doc: str) -> list[list[str]]:
    """Parameter names of every overload that a docstring of the bindings gives, without self."""
    found = []
    for line in re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", doc, re.MULTILINE):
        names = re.findall(r"(?:^|, )(\w+): ", line)
        found.append([name for name in names if name != "self"])
    return found
