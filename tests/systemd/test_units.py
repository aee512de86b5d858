"""The units, judged by systemd's own tools, offline."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edged.config.schema import Config

UNITS = Path(__file__).resolve().parents[2] / "systemd"
DROP_INS = ["none", "cpu", "nvidia", "jetson"]
EXPOSURE_LIMIT = "20"  # 2.0, as systemd-analyze counts it
EDGED = Path(sys.executable).with_name("edged")


def install(folder: Path, drop_in: str, *, change: tuple[str, str] = ("", "")) -> Path:
    """Copy the units as a device would have them, with this environment's ``edged``."""
    text = (UNITS / "edged.service").read_text().replace("/opt/edged/bin/edged", str(EDGED))
    if change[0]:
        assert change[0] in text
        text = text.replace(*change)
    (folder / "edged.service").write_text(text)
    shutil.copy(UNITS / "edged.socket", folder)
    if drop_in != "none":
        (folder / "edged.service.d").mkdir()
        shutil.copy(UNITS / "edged.service.d" / f"{drop_in}.conf", folder / "edged.service.d")
    return folder / "edged.service"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(unit: Path) -> str:
    """Everything that systemd has to say against the unit and its socket."""
    done = analyze("verify", "--man=no", unit, unit.with_name("edged.socket"))
    return done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


def is_closed(unit: Path) -> bool:
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE_LIMIT}", unit)
    assert "Overall exposure level" in done.stdout, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_units_are_accepted(tmp_path: Path, drop_in: str):
    assert verify(install(tmp_path, drop_in)) == ""


@pytest.mark.parametrize("drop_in", DROP_INS)
def test_sandbox_is_closed(tmp_path: Path, drop_in: str):
    assert is_closed(install(tmp_path, drop_in))


def test_control_a_misspelled_directive_is_reported(tmp_path: Path):
    unit = install(tmp_path, "none", change=("WatchdogSec=", "WatchdogSeconds="))
    assert "WatchdogSeconds" in verify(unit)


def test_control_an_open_sandbox_is_refused(tmp_path: Path):
    change = ("CapabilityBoundingSet=\n", "CapabilityBoundingSet=~\n")
    assert not is_closed(install(tmp_path, "none", change=change))


def section(file: str, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes="#")
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(UNITS / file)
    return dict(parser[name])


def test_units_and_configuration_defaults_agree():
    config = Config()
    service, socket = section("edged.service", "Service"), section("edged.socket", "Socket")
    assert socket["ListenStream"] == config.listen.socket.path
    assert socket["SocketMode"] == config.listen.socket.mode
    assert f"/var/lib/{service['StateDirectory']}" == config.state_dir
    assert service["ExecStart"].endswith(" run --config /etc/edged/edged.yaml")
    assert service["Type"] == "notify"


def test_a_gpu_node_is_never_hidden():
    """What cuts a GPU off stands in the CPU drop-in only."""
    service = section("edged.service", "Service")
    hides = {"PrivateDevices", "PrivateUsers", "MemoryDenyWriteExecute", "ProcSubset"}
    assert not hides & set(service)
    for name in ("nvidia", "jetson"):
        assert not hides & set(section(f"edged.service.d/{name}.conf", "Service"))


def test_no_directive_newer_than_jetpack_6():
    """systemd 249; newer directives would only be warned about there, and not work."""
    newer = {"RestartSteps", "RestartMaxDelaySec", "ReloadSignal", "FileDescriptorStorePreserve",
             "MemoryPressureWatch", "ImportCredential", "LoadCredentialEncrypted"}  # fmt: skip
    service = section("edged.service", "Service")
    assert not newer & set(service)
    assert service["Type"] != "notify-reload"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it creates folders for other users")
def test_users_and_folders(tmp_path: Path):
    (tmp_path / "etc").mkdir()
    for tool, file in (("sysusers", "sysusers.d"), ("tmpfiles", "tmpfiles.d")):
        create = ["--create"] if tool == "tmpfiles" else []
        command = [f"systemd-{tool}", f"--root={tmp_path}", *create, UNITS / file / "edged.conf"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    accounts = dict(
        line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines()
    )
    assert "nologin" in accounts["edged"]
    assert (tmp_path / "etc/edged/conf.d").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "run/edged").stat().st_mode & 0o777 == 0o755
    # Before the first start too: bundles may be put there.
    assert (tmp_path / "var/lib/edged").stat().st_mode & 0o777 == 0o700
