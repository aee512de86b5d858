"""The shape of the house: sizes, names, and which third-party package lives in which room."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES, FUNCTION_LINES = 400, 60
FORBIDDEN_ROOMS = {"utils", "util", "helpers", "helper", "common", "misc", "manager2"}
BANNED = re.compile(r"pickle|joblib|\bdill\b|\bmarshal\b|torch\.load|allow_pickle\s*=\s*True")
"""Ways to run code out of a file; the daemon has no use for any of them, not even in a comment."""
MERGE = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)
"""What git leaves where two sides changed the same lines. Its line of ``=`` also underlines titles."""
BESIDE = re.compile(r"\bfsync\(|\bmkstemp\(")
"""What makes a file whole or not there at all; done twice, it is done in two ways."""
ROOMS = {
    "paho": {"edged/transports/mqtt/paho.py", "edged/transports/mqtt/paho_client.py"},
    "onnxruntime": {"edged/runtimes/onnxruntime.py"},
    "onnxruntime_genai": {"edged/runtimes/onnxruntime_genai.py"},
    "tensorrt": {"edged/runtimes/tensorrt_api.py"},
    "openvino": {"edged/runtimes/openvino.py"},
    "pycuda": {"edged/runtimes/cuda_pycuda.py"},
    "cuda": {"edged/runtimes/cuda_bindings.py"},
    "httptools": {"edged/protocol/http_reader.py"},
    "yaml": {"edged/config/load.py"},
    "grpc": set(),
    "hpack": {"edged/protocol/http2_headers.py"},
    "google": {"edged/processing/protobuf_data.py"},
    "zstandard": {"edged/processing/unpacking.py"},
    "urllib3": {"edged/sources/web.py"},
    "PIL": {"edged/processing/image.py"},
    "tokenizers": {"edged/pipelines/token_file.py"},
    "inotify_simple": {"edged/config/watch.py", "edged/incoming/inbox_watch.py"},
    "uvloop": {"edged/boot.py", "edged/cli.py"},
    "cryptography": {"edged/store/keys.py", "edged/config/tls_files.py"},
    "prometheus_client": {"edged/telemetry/exposition.py"},
}
"""Within ``edged/``: the only files that may import that package."""
WORDS_ONLY = {
    "edged/messages.py",
    "edged/runtimes/base.py",
    "edged/serving/served.py",
    "edged/config/section.py",
    "edged/config/keyed.py",
    "edged/config/feed.py",
    "edged/config/binding.py",
    "edged/pipelines/graph.py",
    "edged/protocol/grpc_call.py",
    "edged/protocol/mqtt_reasons.py",
    "edged/protocol/mqtt_rules.py",
    "edged/pipelines/home.py",
    "edged/pipelines/step.py",
    "edged/transports/bindings/arrival.py",
    "edged/transports/mqtt/connection.py",
    "edged/transports/oip_door.py",
    "edged/transports/bindings/outlet.py",
    "edged/transports/native/door.py",
    "edged/generation/house.py",
    "edged/version.py",
    "edged/__main__.py",
    "converters/__main__.py",
    "converters/errors.py",
    "converters/batch/job.py",
    "edged/engines/job.py",
}
"""Declarations without behaviour; what uses them is tested."""
NOT_OURS = {"torch", "tensorflow", "keras", "sklearn", "skl2onnx", "tf2onnx", "onnx", "rich"}
"""Converter packages: no file of the daemon imports them."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def texts() -> list[Path]:
    """Pages and data that no interpreter would stumble over."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("configs/**/*.yaml")]
    return sorted([*pages, *ROOT.glob("tests/**/*.yaml")])


def size_problems(path: Path, text: str) -> list[str]:
    problems = []
    if (lines := text.count("\n")) > FILE_LINES:
        problems.append(f"{path}: {lines} lines; split it by noun at {FILE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                problems.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return problems


def imported(text: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def room_problems(path: str, text: str) -> list[str]:
    names = imported(text)
    wrong = [name for name in names if path not in ROOMS.get(name, {path})]
    return [f"{path} imports {name}" for name in [*wrong, *(names & NOT_OURS)]]


@pytest.mark.parametrize(
    "path",
    sources("edged", "converters", "docs", "benchmarks"),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_file_is_small_and_well_named(path: Path):
    relative = path.relative_to(ROOT)
    assert not size_problems(relative, path.read_text())
    assert not FORBIDDEN_ROOMS & {part.removesuffix(".py") for part in relative.parts}


@pytest.mark.parametrize("path", sources("edged"), ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.hostile("R17 nothing is unpickled in the daemon")
def test_daemon_file_keeps_packages_in_their_room_and_runs_no_foreign_code(path: Path):
    text = path.read_text()
    assert not room_problems(str(path.relative_to(ROOT)), text)
    assert not BANNED.findall(text)


HOUSE = {
    ".",
    "broker",
    "checks",
    "commands",
    "figures",
    "generation",
    "incoming",
    "listeners",
    "pages",
}
"""The rooms of the house."""


def test_tests_mirror_the_tree():
    """tests/<room>/test_<file>.py tests edged/<room>/<file>.py, or converters/…, where it is one."""
    rooms = {path.name for path in (ROOT / "edged").iterdir() if path.is_dir()}
    rooms |= {"converters", "e2e", "fakes", "fuzz", "hostile", "systemd", "demo", "benchmarks"}
    rooms |= {"__pycache__", "zoo", "compat", "onnx_suite", "chaos"}
    strangers = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - rooms
    assert not strangers, f"tests/ has rooms that edged/ has not: {sorted(strangers)}"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sources("edged")
        if path.name != "__init__.py" and str(path.relative_to(ROOT)) not in WORDS_ONLY
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_daemon_file_has_tests_of_its_name(path: Path):
    relative = path.relative_to(ROOT / "edged")
    name = f"test_{path.stem}*.py"
    folders = [ROOT / "tests" / relative.parent]
    if str(relative.parent) in HOUSE:  # is also tested as a process
        folders.append(ROOT / "tests/e2e")
    assert any(list(folder.glob(name)) for folder in folders), f"no tests/{relative.parent}/{name}"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in sources("converters")
        if path.name != "__init__.py" and str(path.relative_to(ROOT)) not in WORDS_ONLY
    ],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_file_of_the_converter_has_tests_of_its_name(path: Path):
    folder = ROOT / "tests" / path.relative_to(ROOT).parent
    assert list(folder.glob(f"test_{path.stem}*.py")), f"no {folder}/test_{path.stem}*.py"


@pytest.mark.parametrize("path", sources("converters"), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_written_beside_and_renamed_in_one_place(path: Path):
    is_there = path.relative_to(ROOT) == Path("converters/atomic.py")
    assert bool(BESIDE.findall(path.read_text())) == is_there, "converters/atomic.py does that"


@pytest.mark.parametrize("path", texts(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_merge_is_left_half_done(path: Path):
    assert not MERGE.findall(path.read_text())


class TestControls:
    """Each gate, seen to close."""

    @pytest.mark.parametrize("mark", ["<", "|", ">"])
    def test_half_done_merge(self, mark: str):
        assert MERGE.search(f"text\n{mark * 7} HEAD\n")

    def test_long_file_and_long_function(self):
        body = "def f():\n" + "    x = 1\n" * FILE_LINES
        assert len(size_problems(Path("a.py"), body)) == 2

    @pytest.mark.parametrize(
        "text", ["import paho.mqtt.client", "def f():\n    from PIL import Image", "import torch"]
    )
    def test_package_in_the_wrong_room(self, text: str):
        assert room_problems("edged/serving/router.py", text)

    @pytest.mark.parametrize(
        "text", ["import pickle", "np.load(p, allow_pickle=True)", "torch.load(f)", "# joblib"]
    )
    def test_banned_word(self, text: str):
        assert BANNED.search(text)
