"""The files of a build folder as texts; that they work together is tested with the folder."""

import dataclasses

import pytest
import yaml

from converters.publishing import texts
from converters.publishing.texts import Names

NAMES = Names(
    model="gate", release=3, bundle="gate-3.edgb", wheel="edged-1-py3-none-any.whl",
    keys=("a.pub", "b.pub"), threshold=2, python="3.11", platform=None, target="any CPU",
    codec="tensors",
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "tag"),
    [("gate", "edged-gate:3"), ("A_b-C.", "edged-a_b-c:3"), ("X.Y", "edged-x.y:3")],
)
def test_tags_are_what_engines_take(model, tag):
    assert dataclasses.replace(NAMES, model=model).tag == tag


def test_the_configuration_trusts_as_many_keys_as_must_have_signed():
    config = yaml.safe_load(texts.configuration(NAMES))
    assert config["trust"] == {"keys": ["keys/a.pub", "keys/b.pub"], "threshold": 2}
    assert config["models"] == {"gate": {"bundle": "bundles/gate-3.edgb"}}
    assert config["listen"]["socket"]["path"] == texts.SOCKET


def test_the_daemon_is_nobody_special_and_the_wheel_is_the_last_to_come():
    text = texts.containerfile(NAMES)
    assert f"USER {texts.USER}:{texts.USER}" in text
    assert text.index("requirements.lock") < text.index("--no-index /opt/install/edged-1")
    assert "python:3.11-slim" in text


def test_the_readme_names_the_platform_only_where_there_is_one():
    assert "--platform" not in texts.readme(NAMES)
    arm = texts.readme(dataclasses.replace(NAMES, platform="linux/arm64"))
    assert arm.count("--platform linux/arm64") == 3


def test_the_lock_is_one_version_a_line():
    text = texts.requirements({"numpy": "2.0.0", "onnxruntime": "1.23.2"}, NAMES)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["numpy==2.0.0", "onnxruntime==1.23.2"]
