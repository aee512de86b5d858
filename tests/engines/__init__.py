"""Bundles with TensorRT engines, built on the fake of ``fakes/tensorrt.py`` for the machine that
``fakes/tensorrt_site.py`` plays; and a note of what loaded one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.engines.build import add, name_of
from edged.manifest import ArtefactEntry, Manifest
from edged.runtimes.base import Artefact
from edged.runtimes.cuda_bindings import CudaBindings
from edged.runtimes.engine import BuildOptions, Engine, Host, host_of
from edged.runtimes.tensorrt_api import TensorRt
from edged.runtimes.tensorrt_build import build_engine
from tests.bundles import describe, make_manifest
from tests.fakes import tensorrt as fake
from tests.fakes.gpu import FakeBindings, FakeGpu
from tests.fakes.tensorrt_site import make_site

DRIVER = "580.159"


def site_host(release: str = "10.3") -> Host:
    """What a process over ``make_site`` finds; as that is."""
    found = host_of(
        "TensorRT", f"{release}.0", "1003", CudaBindings(0, FakeBindings(FakeGpu())).describe()
    )
    return msgspec.structs.replace(found, driver=DRIVER, l4t="")


HOST = site_host()
ELSEWHERE = msgspec.structs.replace(HOST, gpu="Another", compute_capability="7.2")


def build(model: Any, host: Host = HOST, *, release: str = "10.3", **options: Any) -> Engine:
    """An engine of a tiny model."""
    gpu = FakeGpu()
    trt = TensorRt(fake.module(release, gpu), "TensorRT", f"{release}.0")
    specs = ([each.spec() for each in side] for side in (model.inputs, model.outputs))
    artefact = Artefact("gate", model.data, *map(tuple, specs))
    return build_engine(trt, host, artefact, BuildOptions(**options)).engine


def with_engines(
    model: Any, engines: Iterable[Engine], **more: Any
) -> tuple[Manifest, dict[str, bytes]]:
    """A manifest and its members' bytes, with engines as the converter adds them.

    Args:
        model: see ``make_manifest``.
        engines: of ``build``.
        more: see ``make_manifest``.
    """
    manifest, members = make_manifest(model, **more)
    source = manifest.artefacts[0]
    for engine in engines:
        name = name_of(source.precision, engine.fingerprint)
        manifest, members = add(manifest, members, source, name, engine)
    return manifest, members


def forged(
    manifest: Manifest, members: dict[str, bytes], name: str, data: bytes
) -> tuple[Manifest, dict[str, bytes]]:
    """Other bytes for a member, with the manifest's digest of them right again."""
    changed = tuple(describe(name, m.type, data) if m.name == name else m for m in manifest.members)
    return msgspec.structs.replace(manifest, members=changed), {**members, name: data}


def engine_names(manifest: Manifest) -> list[str]:
    """The files that are engines."""
    return [one.name for one in manifest.members if one.type == "tensorrt"]


def without_said(manifest: Manifest) -> Manifest:
    """A manifest that says nothing of its engines."""
    return msgspec.structs.replace(manifest, provenance={})


def entry_of(manifest: Manifest, name: str) -> ArtefactEntry:
    """The artefact of a file."""
    return next(one for one in manifest.artefacts if one.file == name)


_NOTE = """
import os
honest = made.Runtime.deserialize_cuda_engine
def note(self, serialized_engine):
    with open({path!r}, "a") as file:
        file.write("%d\\n" % os.getpid())
    return honest(self, serialized_engine)
made.Runtime.deserialize_cuda_engine = note
"""


class Site:
    """A folder to import from, in which child processes find a GPU, and who loaded an engine.

    Args:
        folder: to be made.
        more: see ``make_site``.
    """

    def __init__(self, folder: Path, *, extra: str = "", **more: Any) -> None:
        self._notes = folder.parent / f"{folder.name}-deserialised"
        note = _NOTE.format(path=str(self._notes))
        self.path = make_site(folder, extra=note + extra, driver=DRIVER, **more)

    @property
    def deserialised(self) -> list[int]:
        """Process numbers, one for each engine that TensorRT was given."""
        try:
            return [int(line) for line in self._notes.read_text().split()]
        except FileNotFoundError:
            return []

    def is_clean(self) -> bool:
        """Whether no engine was ever handed to TensorRT, here or anywhere."""
        assert os.getpid() not in self.deserialised, "the process itself loaded an engine"
        return not self.deserialised
