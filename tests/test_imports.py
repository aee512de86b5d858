"""Importing edged pulls in nothing that the configuration does not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "onnxruntime", "paho", "PIL", "urllib3", "http.client", "tokenizers", "grpc", "google.protobuf", "torch", "tensorflow", "sklearn",
    "skl2onnx", "onnx", "scipy", "pandas", "rich", "openvino", "tensorrt", "converters",
}  # fmt: skip
"""What only a model, a broker, a picture or the converter needs."""


def loaded_by(statement: str) -> set[str]:
    """Top-level and dotted module names in a fresh process after the statement."""
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    return set(done.stdout.split())


def test_edged_alone_needs_the_standard_library_only():
    names = {name.split(".")[0] for name in loaded_by("import edged")}
    assert not names & {"numpy", "msgspec", "yaml", "cryptography", "uvloop", "inotify_simple"}
    assert not names & HEAVY


@pytest.mark.parametrize(
    "module", ["edged.errors", "edged.manifest", "edged.config.schema", "edged.cli", "edged.daemon"]
)
def test_no_heavy_package(module: str):
    assert not loaded_by(f"import {module}") & HEAVY


def test_installed_steps_are_looked_for_only_when_asked_for():
    assert not loaded_by("import edged.daemon") & {"importlib.metadata", "email"}


def test_keys_and_pipelines_bring_what_they_need_with_the_first_of_them():
    names = loaded_by("import edged.daemon")
    assert "cryptography" not in names
    assert not names & {"edged.pipelines.plan", "edged.pipelines.pipeline", "edged.pipelines.kinds"}


def test_client_needs_no_daemon_packages():
    names = loaded_by("import edged; edged.Client")
    assert not names & (HEAVY | {"yaml", "cryptography", "uvloop", "inotify_simple"})


@pytest.mark.parametrize("package", ["edged", "converters"])
def test_public_names_complete_in_a_shell_and_are_there(package: str):
    loaded_by(
        f"import {package} as p; missing = set(p.__all__) - set(dir(p)); assert not missing, missing;"
        " [getattr(p, name) for name in p.__all__]"
    )


def test_control_a_needed_package_is_seen():
    assert "msgspec" in loaded_by("import edged.manifest")
