"""The schema said aloud, and the complete example that must say the same."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from edged.config.explain import FieldInfo, explain, format_explanation
from edged.config.load import Snapshot, load

CONFIGS = Path(__file__).parents[2] / "configs"
FIELDS = list(explain())
STEP = "pipelines.<name>.steps[]."


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    root = tmp_path_factory.mktemp("etc") / "edged"
    shutil.copytree(CONFIGS, root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return load(root)


def shape(path: str) -> str:
    """A written path as explain says it."""
    path = re.sub(r"\[\d+\]", "[]", path)
    return re.sub(r"^(models|pipelines|sources|brokers)\.[^.]+", r"\1.<name>", path)


def missing_from(snapshot: Snapshot, fields: list[FieldInfo]) -> set[str]:
    written = {shape(path) for path in snapshot.marks}
    elsewhere = {item.path for item in fields if item.path.startswith(STEP)}
    return {item.path for item in fields} - written - elsewhere


def test_the_page_about_pipelines_has_a_row_for_every_field_of_a_step() -> None:
    page = (CONFIGS.parent / "docs/pipelines.md").read_text()
    said = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    assert said == {item.path.removeprefix(STEP) for item in FIELDS if item.path.startswith(STEP)}


def test_the_example_shows_every_field(example: Snapshot) -> None:
    assert missing_from(example, FIELDS) == set()


def test_a_field_left_out_of_the_example_would_be_seen(example: Snapshot) -> None:
    extra = FieldInfo("limits.new_field", "a number", "1", "")
    assert missing_from(example, [*FIELDS, extra]) == {"limits.new_field"}


def test_the_page_about_mqtt_has_a_row_for_every_field_of_a_binding() -> None:
    page = (CONFIGS.parent / "docs/mqtt.md").read_text()
    table = page.partition("\n## Bindings\n")[2].partition("\n## ")[0]
    fields = {
        item.path.removeprefix("bindings[].") for item in FIELDS if "bindings[]." in item.path
    }
    whole = {
        "output",
        "sequence",
        "window",
        "join",
        "join[].fields[].path",
        "join[].fields[].default",
        "publish",
        "discovery",
        "sparkplug",
        "max_age",
        "schema",
        "fields[].path",
        "fields[].default",
    }  # said in the rows of their parts
    assert set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)) == fields - whole


def test_the_example_shows_the_defaults(example: Snapshot) -> None:
    """A line that differs from the default says so in its comment."""
    text = (CONFIGS / "edged.yaml").read_text().splitlines()
    defaults = {item.path: item.default for item in FIELDS}
    checked = 0
    for path, mark in example.marks.items():
        default = defaults.get(shape(path))
        if not mark.file.endswith("edged.yaml") or default in (None, "{}", "[]"):
            continue
        line = text[mark.line - 1]
        said = re.sub(r"\s+#.*", "", line).partition(":")[2].strip()
        if "default:" not in line and said:
            assert said == default, line
            checked += 1
    assert checked > 25


def test_every_field_has_words() -> None:
    silent = {item.path for item in FIELDS if not item.description}
    # Words of edged/specs.py, which processing shares.
    assert silent <= {
        "bindings[].output.activation",
        "models.<name>.publish.output.activation",
        "bindings[].join[].fields[].path",
        "bindings[].join[].fields[].default",
        "bindings[].fields[].path",
        "bindings[].fields[].default",
    }
    assert all(item.type for item in FIELDS)


def test_rows() -> None:
    by_path = {item.path: item for item in FIELDS}
    assert by_path["mqtt.port"] == FieldInfo(
        "mqtt.port", "a whole number from 1 to 65535", "1883", "8883 is usual with tls"
    )
    assert by_path["models.<name>.bundle"].default is None
    assert by_path["limits.max_request"].default == "64MiB"
    assert by_path["reload.settle"].default == "100ms"
    assert "log.level\n" in format_explanation()
