"""The folder is checked by what reads it, and the daemon serves from its very files."""

import contextlib
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from converters.cli import main
from converters.publishing import containerize as module
from converters.publishing.containerize import containerize
from converters.publishing.wheel import WHEEL_NAME
from edged.cli import main as edged
from edged.specs import ImageInput
from edged.store.keys import generate_key
from tests.bundles import make_bundle
from tests.e2e.process import DaemonProcess, wait_for
from tests.models import double

INSTRUCTIONS = {"FROM", "RUN", "COPY", "ENV", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


@pytest.fixture
def keys(tmp_path):
    return [generate_key(tmp_path / name) for name in ("one", "two")]


@pytest.fixture
def bundle(tmp_path, keys):
    return make_bundle(tmp_path / "any.edgb", double(), key=keys[0][0])


@pytest.fixture
def box(bundle, keys, tmp_path):
    containerize(bundle, tmp_path / "box", [keys[0][1]], 1, None)
    return tmp_path / "box"


def instructions(text):
    """(instruction, rest) of a Containerfile, with continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in joined]


def uncommented(text):
    return re.sub(r"^#(?=mqtt:|bindings:|  )", "", text, flags=re.MULTILINE)


def test_what_is_in_it(box, bundle, keys):
    files = {path.relative_to(box).as_posix(): path for path in box.rglob("*") if path.is_file()}
    (key,) = [name for name in files if name.startswith("etc/keys/")]
    assert set(files) == {
        "Containerfile", "README.md", "requirements.lock", WHEEL_NAME,
        "etc/edged.yaml", "etc/bundles/gate-1.edgb", key,
    }  # fmt: skip
    assert files["etc/bundles/gate-1.edgb"].read_bytes() == bundle.read_bytes()
    assert files[key].read_bytes() == keys[0][1].read_bytes()
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in (box, box / "etc")} == {0o755}


def test_the_containerfile(box):
    found = instructions((box / "Containerfile").read_text())
    assert {name for name, _ in found} == INSTRUCTIONS
    said = dict(found)
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert said["FROM"] == f"docker.io/library/python:{python}-slim-bookworm"
    for _, rest in [one for one in found if one[0] == "COPY"]:
        assert all((box / source).exists() for source in shlex.split(rest)[:-1])
    order = [name for name, _ in found]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))
    assert int(said["USER"].partition(":")[0]) > 0
    for name, rest in found:
        if name == "RUN":  # a shell takes it
            subprocess.run(["sh", "-nc", rest], check=True, timeout=20)


def test_the_lock_has_one_version_each(box):
    lines = (box / "requirements.lock").read_text().splitlines()
    locked = [line for line in lines if not line.startswith("#")]
    assert len(locked) > 8
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][^ ]*", line) for line in locked)
    assert "Without hashes" in "\n".join(lines)


def test_the_configuration_is_good_with_and_without_a_broker(box, capsys):
    config = box / "etc/edged.yaml"
    assert edged(["check", "--config", str(config)]) == 0
    assert "1 model, 0 bindings" in capsys.readouterr().out
    config.write_text(uncommented(config.read_text()))
    assert edged(["check", "--config", str(config)]) == 0, capsys.readouterr().out
    assert "1 model, 1 binding" in capsys.readouterr().out


def test_the_readme_s_platform_and_tag(bundle, keys, tmp_path):
    containerize(bundle, tmp_path / "arm", [keys[0][1]], 1, "jetpack6")
    text = (tmp_path / "arm/README.md").read_text()
    assert "podman build --platform linux/arm64 --format docker -t edged-gate:1 ." in text


@pytest.mark.parametrize("name", ["1.0", "null", "A_b-C."])
def test_names_that_yaml_could_take_for_something_else(tmp_path, keys, name, capsys):
    bundle = make_bundle(tmp_path / "n.edgb", double(), name=name, key=keys[0][0])
    containerize(bundle, tmp_path / "box", [keys[0][1]], 1, None)
    config = tmp_path / "box/etc/edged.yaml"
    config.write_text(uncommented(config.read_text()))
    assert edged(["check", "--config", str(config)]) == 0, capsys.readouterr()


def test_pictures_bring_pillow(tmp_path, keys, box):
    work = ImageInput(width=2, height=2, mode="L", layout="flat")
    bundle = make_bundle(
        tmp_path / "p.edgb", double(), key=keys[0][0], input_processing={"x": work}
    )
    containerize(bundle, tmp_path / "p", [keys[0][1]], 1, None)
    assert "\npillow==" in (tmp_path / "p/requirements.lock").read_text()
    assert "codec: image" in (tmp_path / "p/etc/edged.yaml").read_text()
    assert "\npillow==" not in (box / "requirements.lock").read_text()


def test_the_same_folder_every_time(box, bundle, keys, tmp_path):
    (tmp_path / "again").mkdir()  # an empty folder will do
    containerize(bundle, tmp_path / "again", [keys[0][1]], 1, None)
    for path in box.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(box)).read_bytes() == path.read_bytes()


def test_refused_without_a_trace(bundle, keys, tmp_path, capsys, monkeypatch):
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "out"
    words = ["containerize", str(bundle), "-o", str(out)]
    one, two = (["--key", str(public)] for _, public in keys)
    assert main(words) == 65
    assert "name the public keys" in capsys.readouterr().err
    assert main([*words, *two]) == 78
    assert main([*words, *one, *two, "--threshold", "2"]) == 78
    assert "signed by 1 of 2" in capsys.readouterr().err
    assert main(["containerize", str(bundle), "-o", str(tmp_path), *one]) == 65
    assert main(["containerize", str(bundle), "-o", str(tmp_path / "no/where"), *one]) == 65
    assert "exists already" in capsys.readouterr().err
    monkeypatch.setattr(module.shutil, "copyfile", full_disk)
    assert main([*words, *one]) == 78  # the copy that is checked comes first
    assert sorted(tmp_path.iterdir()) == before


def full_disk(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_in_mid_folder(bundle, keys, tmp_path, capsys, monkeypatch):
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(module.Path, "chmod", full_disk)
    out = str(tmp_path / "out")
    assert main(["containerize", str(bundle), "-o", out, "--key", str(keys[0][1])]) == 65
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_the_daemon_serves_from_it(box, tmp_path):
    """The wheel as pip installs it, the folder's configuration with this machine's paths."""
    site, run = tmp_path / "site", tmp_path / "run"
    run.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(site), str(box / WHEEL_NAME)], check=True, timeout=100)
    config = box / "etc/edged.yaml"
    text = config.read_text().replace("/run/edged/", f"{run}/").replace("/var/lib/edged", str(run))
    config.write_text(text)
    env = {**os.environ, "PYTHONPATH": str(site), "EDGED_SOCKET": str(run / "edged.sock")}
    where = [sys.executable, "-c", "import edged; print(edged.__file__)"]
    seen = subprocess.run(where, cwd=run, env=env, capture_output=True, text=True, check=True)
    assert seen.stdout.startswith(str(site))
    daemon = DaemonProcess(run)
    with daemon.log.open("ab") as log:
        daemon.process = subprocess.Popen(
            [sys.executable, "-m", "edged", "run", "--config", str(config)],
            cwd=run, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(daemon.stop)
        wait_for(daemon.is_up, 60)
        wait_for(lambda: daemon.status()["ready"], 60)
        with daemon.client() as client:
            assert client.infer("gate", x=np.ones((1, 4), np.float32))["y"].tolist() == [[2.0] * 4]
        probe = [str(site / "bin/edged"), "status", "--ready"]
        done = subprocess.run(probe, cwd=run, env=env, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
        assert done.returncode == 0, done
    assert subprocess.run(probe, cwd=run, env=env, capture_output=True, timeout=60, check=False).returncode  # fmt: skip
