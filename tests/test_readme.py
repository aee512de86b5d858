"""The documentation is run: every ``sh`` block, in order; every device command and link exists.

Blocks marked ``sh`` run as one script a page, in a folder that holds a trained model, its samples,
a picture and a signed bundle. Blocks marked ``console`` are for a device: their commands must be
ones that exist. ``make`` lines are checked against the Makefile instead of being run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edged.serving.lifecycle import TRANSITIONS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```([a-z]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
BIN = Path(sys.executable).parent
SCRIPT_S = 100


def blocks(page: str, kind: str) -> list[str]:
    return [body for name, body in FENCE.findall(page) if name == kind]


def commands(block: str) -> list[str]:
    """The lines after ``$`` of a console block, without comments."""
    lines = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s{2,}#.*$", "", line) for line in lines]


def make_problems(line: str) -> list[str]:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    return [f"{line}: no target {word} in the Makefile" for word in asked if word not in targets]


def missing_links(page: Path, text: str) -> list[str]:
    outside = FENCE.sub("", text)
    targets = [link.partition("#")[0] for link in LINK.findall(outside)]
    local = [target for target in targets if target and "://" not in target]
    return [target for target in local if not (page.parent / target).exists()]


def device_problems(line: str) -> list[str]:
    """What a device command names that this repository does not have."""
    if line.startswith("make "):
        return make_problems(line)
    problems = [
        f"{line}: no file {word}"
        for word in re.findall(r"(?<![\w/.])(?:systemd|configs|docs)/[\w./-]+", line)
        if not (ROOT / word).exists()
    ]
    words = shlex.split(re.sub(r"^sudo (-u \S+ )?", "", line), comments=True)
    program = Path(words[0]).name
    modules = {"edged": "edged.cli", "edged-convert": "converters.cli"}
    if program in modules:
        help_ = [sys.executable, "-m", modules[program], words[1], "--help"]
        if subprocess.run(help_, capture_output=True, timeout=60, check=False).returncode != 0:
            problems.append(f"{line}: {program} has no command {words[1]}")
    return problems


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages assume it: a model, samples, a picture, a key and a signed bundle."""
    folder = tmp_path_factory.mktemp("workshop")
    images, classes = load_digits(return_X_y=True)
    pixels = (images * 15).astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400))
    joblib.dump(model.fit(pixels, classes), folder / "digits.joblib")
    np.savez(folder / "digits.npz", pixels=pixels[:100])
    Image.fromarray(pixels[0].reshape(8, 8).astype(np.uint8)).save(folder / "digit.png")
    return folder


def run_script(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's commands; what they left in the background is ended with them."""
    socket = tempfile.mkdtemp(prefix="edged-readme-")
    end = "trap 'jobs=$(jobs -p); [ -z \"$jobs\" ] || kill $jobs; wait' EXIT\n"
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "EDGED_SOCKET": f"{socket}/edged.sock",
    }
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", end + text],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=SCRIPT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a server would keep its port for ever
        process.communicate()
        shutil.rmtree(socket)


def test_a_script_that_takes_too_long_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT_S", 2)
    with pytest.raises(subprocess.TimeoutExpired):
        run_script("sleep 600 & echo $! > pid\nwhile true; do sleep 0.1; done\n", tmp_path)
    pid = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_resolve(path: Path):
    assert missing_links(path, path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_device_commands_exist(path: Path):
    lines = [line for block in blocks(path.read_text(), "console") for line in commands(block)]
    assert [problem for line in lines for problem in device_problems(line)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in PAGES if blocks(path.read_text(), "sh")], ids=lambda path: path.name
)
def test_commands_run(path: Path, workshop: Path, tmp_path: Path):
    lines = "".join(blocks(path.read_text(), "sh")).splitlines(keepends=True)
    made = [line for line in lines if line.startswith("make ")]
    assert [problem for line in made for problem in make_problems(line)] == []
    folder = shutil.copytree(workshop, tmp_path / "page")
    done = run_script("".join(line for line in lines if line not in made), folder)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def missing_modules(text: str) -> list[str]:
    """Paths in backquotes like ``serving/router.py`` that are in no package."""
    named = set(re.findall(r"`((?:\w+/)*\w+\.py)`", text))
    folders = [ROOT, ROOT / "edged", ROOT / "converters"]
    return sorted(name for name in named if not any((base / name).exists() for base in folders))


def table_of(text: str) -> dict[str, dict[str, str]]:
    """The table of states in docs/architecture.md."""
    rows = re.findall(r"^\| ([a-z]+) \| ?([^|]*?) ?\|$", text, re.MULTILINE)
    states = {row[0]: row[1] for row in rows if row[0] != "state"}
    return {
        state: dict(change.split(": ", 1) for change in changes.split("; ") if change)
        for state, changes in states.items()
    }


def test_the_map_names_files_that_exist():
    assert missing_modules((ROOT / "docs/architecture.md").read_text()) == []


def test_the_map_shows_the_law_of_a_release():
    law = {
        state.value: {event.value: new.value for event, new in changes.items()}
        for state, changes in TRANSITIONS.items()
    }
    assert table_of((ROOT / "docs/architecture.md").read_text()) == law


class TestControls:
    """Each rule, seen to refuse."""

    def test_dead_link(self):
        assert missing_links(ROOT / "README.md", "see [it](docs/nowhere.md)") == ["docs/nowhere.md"]

    @pytest.mark.parametrize(
        "line",
        [
            "make coffee",
            "sudo -u edged edged repair",
            "/opt/edged/bin/edged repair",
            "sudo install systemd/absent.conf /etc",
        ],
    )
    def test_command_that_is_not_there(self, line: str):
        assert device_problems(line)

    def test_module_that_is_not_there(self):
        assert missing_modules("see `serving/oracle.py`") == ["serving/oracle.py"]

    def test_failing_command(self, tmp_path: Path):
        assert run_script("sleep 60 &\nfalse\ntrue\n", tmp_path).returncode != 0


def test_make_help_names_every_target_in_lines_that_fit() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    lines = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    named = {line.split()[0] for line in lines if line}
    inside = {name for name in targets[1].split() if name.endswith("-venv")} | {"help", "broker"}
    assert set(targets[1].split()) - inside <= named
    assert max(map(len, lines)) <= 100
