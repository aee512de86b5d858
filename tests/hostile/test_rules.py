"""Rules that hold by what the daemon's code has not: imports, names and fields that do not occur."""

from __future__ import annotations

import ast
import inspect
import json
import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from edged.config.listen import SocketConfig
from edged.config.schema import Config
from edged.errors import ManifestError, NotFoundError
from edged.manifest import Manifest, canonical_json, parse_manifest
from edged.processing import codecs
from edged.processing.json_text import parse_json
from edged.protocol import native
from edged.store.repository import Repository
from edged.store.trust_store import TrustStore
from tests.bundles import make_bundle, make_manifest
from tests.fakes.house import Peer, houses
from tests.models import double, with_external_data

ROOT = Path(__file__).resolve().parent.parent.parent
FETCHERS = {
    "urllib",
    "urllib3",
    "http",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "xmlrpc",
}
EXTRACTORS = {"zipfile", "tarfile", "gzip", "bz2", "lzma"}
LOADERS = {"ctypes", "cffi"}
FORBIDDEN = {
    "os.link": "R25",
    "shutil.unpack_archive": "R16",
    "register_custom_ops_library": "R26",
    "get_library_path": "R26",
    "np.prod": "R39",
    "numpy.prod": "R39",
    "np.load": "R17",
}
"""Calls and names that do not occur in the daemon, and the rule each would break."""


EXCEPT = {"os.link": ["seal.py", "installing.py"]}
"""A file that two processes may make at once, and neither replaces; its first name goes at once."""


def sources() -> list[Path]:
    return sorted((ROOT / "edged").rglob("*.py"))


@cache
def imports(text: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@cache
def dotted(text: str) -> set[str]:
    """Each attribute as it is written, whole and by its last name: ``np.prod`` and ``prod``."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            found |= {ast.unparse(node), node.attr}
    return found


def importers(packages: set[str]) -> dict[str, set[str]]:
    found = {
        str(path.relative_to(ROOT)): imports(path.read_text()) & packages for path in sources()
    }
    return {path: names for path, names in found.items() if names}


@pytest.mark.hostile(
    "R25 no hard links in the store",
    "R26 no library is loaded by a path from a bundle or the configuration",
    "R39 counts of elements are Python's own numbers",
    "R16 no archive is extracted on the device",
)
@pytest.mark.parametrize("name", FORBIDDEN)
def test_names_that_do_not_occur(name: str) -> None:
    users = [path.name for path in sources() if name in dotted(path.read_text())]
    assert users == EXCEPT.get(name, []), FORBIDDEN[name]


@pytest.mark.hostile("R14 no address given by a peer or a bundle is fetched")
def test_the_daemon_cannot_fetch() -> None:
    """But of sources, which the operator names, in a process of its own; addresses are only read."""
    found = importers(FETCHERS)
    assert found.pop("edged/sources/web.py") == {"urllib3"}
    for path in found:
        assert path.startswith("edged/sources/") or path == "edged/config/sources.py"
        text = (ROOT / path).read_text()
        assert found[path] == {"urllib"}
        lines = [line for line in text.splitlines() if re.search(r"(import|from) urllib", line)]
        assert all(line.startswith("from urllib.parse import ") for line in lines)


@pytest.mark.hostile("R16 no archive is extracted on the device")
def test_the_daemon_cannot_extract() -> None:
    """One reader knows tar's heads: it takes one file of a name of its own out of a layer."""
    assert importers(EXTRACTORS) == {"edged/sources/unpack.py": {"tarfile"}}
    text = (ROOT / "edged/sources/unpack.py").read_text()
    used = set(re.findall(r"\btarfile\.(\w+)", text))
    assert used <= {"BLOCKSIZE", "REGTYPE", "TarInfo", "HeaderError"}


@pytest.mark.hostile("R26 no library is loaded by a path from a bundle or the configuration")
def test_libraries_are_loaded_by_fixed_names_only() -> None:
    """Those that the driver and the backend install; else the C library that is there already."""
    assert set(importers(LOADERS)) <= {
        "edged/device/clock.py",
        "edged/device/memory.py",
        "edged/device/nvidia.py",
        "edged/system/breath.py",
        "edged/system/places.py",
        "edged/system/timeslice.py",
        "edged/clients/nearby.py",
        "edged/workers/worker.py",
        "edged/runtimes/cuda.py",  # the driver's, by its name
        "edged/runtimes/cuda_bindings.py",  # memory that the driver gave; loads nothing
        "edged/runtimes/onnxruntime_cuda.py",  # two of the backend's own, beside its package
        "edged/runtimes/onnxruntime_special.py",  # memory that the backend gave; loads nothing
        "edged/runtimes/onnxruntime_tensorrt.py",  # those of the installed package tensorrt_libs
    }
    assert 'DRIVER = "libcuda.so.1"' in (ROOT / "edged/runtimes/cuda.py").read_text()
    for name in ("cuda_bindings", "onnxruntime_special"):
        assert "CDLL" not in (ROOT / f"edged/runtimes/{name}.py").read_text()
    text = (ROOT / "edged/runtimes/onnxruntime_cuda.py").read_text()
    assert re.findall(r"CDLL\((.*?), mode", text) == ["str(folder / name)"]
    assert "in ((_SHARED, ctypes.RTLD_GLOBAL), (library, ctypes.RTLD_LOCAL))" in text
    text += (ROOT / "edged/runtimes/onnxruntime_tensorrt.py").read_text()
    names = set(re.findall(r'^    library = "(.*)"$', text, re.MULTILINE))
    assert names == {f"libonnxruntime_providers_{name}.so" for name in ("cuda", "tensorrt")}
    plain = (
        "workers/worker",
        "device/memory",
        "device/clock",
        "clients/nearby",
        "system/places",
        "system/timeslice",
    )
    for path in plain:
        found = re.findall(r"(?:CDLL|PyDLL)\((.*?)\)", (ROOT / f"edged/{path}.py").read_text())
        assert [one.partition(",")[0] for one in found] == ["None"]
    fields = {field.name for field in msgspec.structs.fields(Manifest)}
    for path in ("edged/config/schema.py", "edged/specs.py", "edged/manifest.py"):
        tree = ast.parse((ROOT / path).read_text())
        fields |= {ast.unparse(n.target) for n in ast.walk(tree) if isinstance(n, ast.AnnAssign)}
    assert {"bundle", "members"} <= fields
    assert not [name for name in fields if re.search("library|plugin|custom|module", name)]


@pytest.mark.hostile("R10 one entry for JSON")
def test_json_of_others_has_one_entry() -> None:
    """Documents of a fixed form are msgspec's; the one other reader reads what we wrote ourselves."""
    assert importers({"json"}).keys() <= {
        "edged/processing/json_text.py",
        "edged/transports/bindings/subscriptions.py",  # the list of filters that we wrote ourselves
        "edged/manifest.py",  # writes
        "edged/pipelines/describe.py",  # writes what it takes the digest of
        "edged/commands/ahead.py",  # writes
        "edged/commands/asking.py",  # writes
        "edged/commands/bundle.py",  # writes
        "edged/commands/configuration.py",  # writes
        "edged/commands/desired.py",  # writes
        "edged/commands/device.py",  # writes
        "edged/commands/trust.py",  # writes
        "edged/store/trust_document.py",  # writes what is signed
        "edged/commands/changes.py",  # writes
        "edged/commands/mqtt.py",  # writes
        "edged/commands/question.py",  # what a person types
    }
    assert parse_json(b"[1]") == [1]


@pytest.mark.hostile("R18 what a message calls itself selects no decoder")
def test_what_a_message_calls_itself_chooses_no_decoder() -> None:
    """MQTT 5 carries a content type; whoever hears it asks the operator's list, or keeps away."""
    decoders = [codecs.build_codec, codecs.Codec.decode]
    heard = {name for one in decoders for name in inspect.signature(one).parameters}
    assert not {name for name in heard if "content" in name or "encoding" in name}
    texts = [path.read_text() for path in (ROOT / "edged/transports/bindings").glob("*.py")]
    heard_of = sum(text.count("message.content_type") for text in texts)
    choosing = sum(text.count("choose(self._message.content_type)") for text in texts)
    # One with such a list goes the usual way, which chooses.
    leaving = sum(text.count("message.content_type is not None and way.is_auto") for text in texts)
    assert heard_of == choosing + leaving
    assert choosing > 0


@pytest.mark.hostile("R20 a bundle never says how far to trust it")
@pytest.mark.parametrize("word", ["trusted", "require_signatures", "signatures", "safe", "keys"])
def test_a_manifest_that_vouches_for_itself(word: str) -> None:
    document = json.loads(canonical_json(make_manifest(double())[0])) | {word: True}
    data = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ManifestError, match="unknown field"):
        parse_manifest(data)


@pytest.mark.hostile("R11 a model name is a key and never a path")
@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/b", "a\0b", ".hidden", "x" * 10_000])
def test_hostile_names_in_the_configuration_too(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"models": {name: {"bundle": "a.edgb"}}}, Config)
    assert msgspec.convert({"models": {"a": {"bundle": "a"}}}, Config).models["a"].bundle == "a"


@pytest.mark.hostile(
    "R12 nobody uploads a model through an API",
    "R13 nothing is changed through the inference socket",
)
def test_every_call_of_the_socket_only_tells() -> None:
    """The daemon's calls by name; one that changes something belongs on a socket of its own."""
    tree = ast.parse((ROOT / "edged/daemon.py").read_text())
    (told,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "_calls"
    )
    (answer,) = told.body
    assert isinstance(answer, ast.Return)
    calls = answer.value
    assert isinstance(calls, ast.Dict)
    names = {ast.literal_eval(key) for key in calls.keys if key is not None}
    # "engines" may look again at what this device built and sealed; no peer can put anything there.
    assert names <= {"status", "models", "manifest", "metrics", "health", "engines"}


@pytest.mark.hostile("R6 a feature that is off says so")
@pytest.mark.parametrize("verb", ["load", "unload", "activate", "shm_register", "trace", ""])
def test_calls_that_are_not_there(verb: str, tmp_path: Path) -> None:
    for house in houses("uvloop", tmp_path / "s"):
        house.start()
        peer = Peer(house.path)
        peer.send(native.encode_call(1, verb, {"path": "/etc/passwd"}))
        with pytest.raises(NotFoundError, match="no call"):
            native.decode_reply(peer.frame())
        peer.close()


@pytest.mark.hostile("R22 the listener is a Unix socket of mode 0660")
def test_nothing_listens_on_the_network() -> None:
    assert SocketConfig().mode == "0660"
    opening = {"create_server", "start_server", "AF_INET", "AF_INET6"}
    users = {path.name for path in sources() if opening & dotted(path.read_text())}
    assert users <= {"web_listener.py"}, "HTTP, where the configuration names an address"


@pytest.mark.hostile("R25 no hard links in the store")
def test_every_file_of_the_store_has_one_name(tmp_path: Path) -> None:
    """Two releases with the same weights too: onnx itself refuses files with more names."""
    trust = TrustStore({}, required=False)
    model, sidecars = with_external_data()
    extra = {name: ("onnx-data", data) for name, data in sidecars.items()}
    repository = Repository(tmp_path / "state")
    repository.open()
    try:
        for release in (1, 2):
            path = make_bundle(tmp_path / f"{release}.edgb", model, release=release, extra=extra)
            repository.import_bundle(path, trust)
    finally:
        repository.close()
    files = [path for path in (tmp_path / "state/store").rglob("*") if path.is_file()]
    assert len(files) >= 2 * (len(sidecars) + 2)
    assert {path.stat().st_nlink for path in files} == {1}


class TestControls:
    """Each gate, seen to close."""

    @pytest.mark.parametrize("text", ["import os\nos.link(a, b)", "np.prod(shape)", "x = np.load"])
    def test_a_forbidden_name(self, text: str) -> None:
        assert FORBIDDEN.keys() & dotted(text)

    @pytest.mark.parametrize(
        "text", ["import urllib.request", "def f():\n from http import client"]
    )
    def test_a_forbidden_package(self, text: str) -> None:
        assert imports(text) & FETCHERS
