"""What children get of our environment."""

from __future__ import annotations

import os
import sys

from edged.system.child import child_environment


def test_secrets_stay_and_packages_go(monkeypatch):
    monkeypatch.setenv("BROKER_PASSWORD", "hunter2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(sys, "path", ["", "relative", "/opt/packages", "/other"])
    environment = child_environment()
    assert "BROKER_PASSWORD" not in environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    # What is relative would be looked for in another directory.
    assert environment["PYTHONPATH"] == os.pathsep.join(["/opt/packages", "/other"])
