"""Part G of the catalogue against a daemon in a process of its own: a folder that anybody fills.

Every hostile bundle takes the place of one that serves. The words of each refusal are in the tests
of the store; here the daemon goes on, says which file it was, and keeps nothing of it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edged.errors import EdgedError
from edged.manifest import Requires, canonical_json
from edged.store.keys import generate_key
from edged.store.signing import Signer
from tests.bundles import make_bundle, make_manifest, write_archive, write_bundle
from tests.e2e.process import DaemonProcess, running, wait_for
from tests.hostile.baseline import process_of, undisturbed
from tests.models import TinyModel, double, external_tensor, onnx_bytes

X = np.ones((1, 4), np.float32)


class Site:
    """A daemon that trusts one key and serves ``m`` and ``h``; ``h`` is what is replaced."""

    def __init__(self, folder: Path) -> None:
        private, public = generate_key(folder / "release")
        self.signer = Signer.from_file(private)
        self.stranger = Signer.from_file(generate_key(folder / "stranger")[0])
        self.folder = folder
        self.bundle = folder / "h.edgb"
        self.body = (
            f"trust: {{keys: [{public.name}]}}\nreload: {{settle: 20ms, poll: 200ms}}\n"
            "models:\n  m: {bundle: m.edgb}\n  h: {bundle: h.edgb}\n"
        )
        make_bundle(folder / "m.edgb", double(), name="m", key=self.signer)
        make_bundle(self.bundle, double(factor=3), name="h", key=self.signer)

    def put(self, model: TinyModel, path: Path, **more: object) -> None:
        make_bundle(path, model, name="h", release=2, key=self.signer, **more)

    def put_files(
        self, path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], **fields: object
    ) -> None:
        manifest, files = make_manifest(double(factor=4), name="h", release=2, **fields)
        write_bundle(path, canonical_json(manifest), change(files), self.signer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("g"))


@pytest.fixture(scope="module")
def daemon(site: Site) -> Iterator[DaemonProcess]:
    with running(site.folder, site.body) as process:
        yield process
        assert "Traceback" not in process.log.read_text()


def reaching_out(location: str, **entries: object) -> TinyModel:
    model = double(factor=4)
    proto = onnx.load_from_string(model.data)
    value = external_tensor("w", TensorProto.FLOAT, [4], location=location, **entries)
    proto.graph.initializer.append(value)
    return replace(model, data=proto.SerializeToString())


def custom() -> TinyModel:
    model = double(factor=4)
    node = helper.make_node("Open", ["x"], ["y"], domain="my.library")
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("my.library", 1)]
    data = onnx_bytes([node], model.inputs, model.outputs, opset_imports=imports)
    return replace(model, data=data)


def infinite() -> TinyModel:
    """Promises numbers and gives infinity."""
    model = double()
    node = helper.make_node("Mul", ["x", "k"], ["y"])
    constants = {"k": np.array(np.inf, np.float32)}
    return replace(model, data=onnx_bytes([node], model.inputs, model.outputs, constants))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("manifest.json", (1980, 1, 1, 0, 0, 0))
        file.writestr(info, bytes(100_000_000), zipfile.ZIP_DEFLATED)


def twice(path: Path, site: Site) -> None:
    manifest, files = make_manifest(double(factor=4), name="h", release=2)
    with pytest.warns(UserWarning, match="Duplicate"):
        write_archive(
            path,
            [("manifest.json", canonical_json(manifest)), *files.items(), *files.items()],
        )


ATTACKS: dict[str, tuple[Callable[[Path, Site], object], str]] = {
    "a stranger's key": (
        lambda path, site: (
            make_bundle(path, double(factor=4), name="h", release=2, key=site.stranger) and None
        ),
        "0 of 1",
    ),
    "surplus": (
        lambda path, site: site.put_files(path, lambda files: files | {"more.txt": b"x"}),
        "not in the manifest",
    ),
    "missing": (
        lambda path, site: site.put_files(
            path, lambda files: {name: files[name] for name in ["model.onnx"]}
        ),
        "not in the archive",
    ),
    "name": (
        lambda path, site: site.put_files(path, lambda files: {"../x": b"x", **files}),
        "archive",
    ),
    "twice": (twice, "occurs twice"),
    "100 MB": (lambda path, _: bomb(path), "stored, not compressed"),
    "newer": (
        lambda path, site: site.put(double(factor=4), path, requires=Requires(edged="99.0")),
        "99.0",
    ),
    "external": (
        lambda path, site: site.put(reaching_out("../../../etc/passwd"), path),
        "external data",
    ),
    "external, absolute": (
        lambda path, site: site.put(reaching_out("/etc/passwd"), path),
        "external data",
    ),
    "past the end": (
        lambda path, site: site.put(
            reaching_out("w.data", offset=0, length=1 << 40),
            path,
            extra={"w.data": ("onnx-data", bytes(16))},
        ),
        "does not lie inside",
    ),
    "library": (lambda path, site: site.put(custom(), path), "my.library"),
    "truncated": (
        lambda path, site: site.put(replace(double(), data=double().data[:60]), path),
        "model.onnx",
    ),
    "infinity": (lambda path, site: site.put(infinite(), path), "NaN or infinity"),
    "script": (
        lambda path, site: site.put(double(), path, extra={"a.py": ("text", b"import os")}),
        "not a name for type",
    ),
    "noise": (lambda path, _: path.write_bytes(b"\x7fELF" * 1000), "not a bundle"),
    "empty": (lambda path, _: path.write_bytes(b""), "not a bundle"),
}


def libraries(daemon: DaemonProcess) -> set[str]:
    return {entry.path for entry in process_of(daemon).memory_maps() if ".so" in entry.path}


def factor(daemon: DaemonProcess) -> float | None:
    try:
        with daemon.client() as client:
            return float(client.infer("h", x=X)["y"][0, 0])
    except EdgedError:
        return None


@pytest.mark.hostile(
    "G1 signed by an unknown key",
    "G2 a file in the archive only or in the manifest only",
    "G4 one name twice, good then bad",
    "G5 97 kB that would become 100 MB",
    "G7 external data at ../, absolute, a link, sub/../..",
    "G9 a custom operator domain or library",
    "G12 an empty or truncated model",
    "G13 NaN or infinity on the golden samples",
)
def test_every_hostile_bundle_in_the_place_of_a_good_one(site: Site, daemon: DaemonProcess) -> None:
    before = libraries(daemon)
    good = site.bundle.read_bytes()
    with undisturbed(daemon, 24):
        for name, (make, words) in ATTACKS.items():
            fresh = site.folder / "fresh"
            make(fresh, site)
            fresh.replace(site.bundle)
            problems: list[str] = []

            def is_refused(words: str = words, problems: list[str] = problems) -> bool:
                problems[:] = daemon.status()["config"]["problems"]
                return any(words in problem for problem in problems)

            try:
                wait_for(is_refused)
            except AssertionError:
                pytest.fail(f"{name}: expected {words!r}; the problems are {problems}")
            assert factor(daemon) == 3.0, name
            # It may be looked at a second time.
            wait_for(lambda: not any((site.folder / "state/staging").iterdir()))
        fresh.write_bytes(good)
        fresh.replace(site.bundle)
        wait_for(lambda: daemon.status()["config"]["problems"] == [])
    assert libraries(daemon) <= before, "something was loaded into the process"
    assert len(list((site.folder / "state/store").iterdir())) <= 3
