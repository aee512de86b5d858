"""The how-to's own commands, copied out of the page and run."""

import importlib.util
import re
import shlex
import subprocess
import sys

import pytest


def blocks(root, title):
    """The fenced blocks of one section of docs/converting.md: (language, text)."""
    page = (root / "docs" / "converting.md").read_text()
    section = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    assert found
    return found


def follow(root, folder, title):
    """Write the files and run the commands of a section."""
    for language, text in blocks(root, title):
        if language in ("python", "yaml"):
            name = text.split("\n", 1)[0].removeprefix("# ").split(":", 1)[0]
            (folder / name).write_text(text)
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line)
            program = {
                "python": [sys.executable],
                "edged-convert": [sys.executable, "-m", "converters.cli"],
            }[words[0]]
            done = subprocess.run(
                [*program, *words[1:]],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    follow(root, folder, "A first bundle, with scikit-learn")
    return folder


@pytest.mark.slow
def test_the_first_bundle_and_the_recipe(root, folder):
    assert (folder / "digits-1.edgb").exists()
    follow(root, folder, "The report")
    assert (folder / "digits-1.report.html").exists()
    follow(root, folder, "A recipe instead of flags")
    assert (folder / "digits-2.edgb").exists()


@pytest.mark.slow
def test_many_models(root, folder):
    _, text = blocks(root, "A recipe instead of flags")[0]
    (folder / "digits.yaml").write_text(text)
    follow(root, folder, "Many models")
    assert (folder / "bundles" / "digits-2-jetpack6.edgb").exists()


@pytest.mark.frameworks
@pytest.mark.timeout(300)  # three conversions, each with PyTorch imported
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed on this Python"
)
def test_the_pytorch_section(root, folder):
    follow(root, folder, "PyTorch")
    assert (folder / "net-2.edgb").exists()
    follow(root, folder, "INT8 for CPUs")
    assert (folder / "net-3.edgb").exists()


def test_every_refusal_in_the_table_is_one_we_make(root):
    page = (root / "docs" / "converting.md").read_text().split("\n## When it says no\n", 1)[1]
    sources = "".join(path.read_text() for path in (root / "converters").rglob("*.py"))
    said = re.sub(r'"\s*\n?\s*f?"', "", sources)  # strings that continue on the next line
    for words in re.findall(r"^\| `(.*?)` \|", page, re.MULTILINE):
        for part in re.split(r"…|at 1|\"|FunctionTransformer", words):
            assert part.strip() in said, part
