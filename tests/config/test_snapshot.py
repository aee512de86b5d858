"""Paths, digests and the check of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import check_files, full_digest

TEXT = """
trust: {keys: [keys/a.pub]}
mqtt:
  username: u
  password: {file: secret}
  tls: {ca: ca.pem}
models:
  digits: {bundle: models/*.edgb}
  gate: {bundle: [gate.edgb, /abs/x.edgb, ../up.edgb]}
"""


@pytest.fixture
def filled(site):
    site.write(TEXT)
    for name in (
        "models/b.edgb",
        "models/a.edgb",
        "models/c.txt",
        "keys/a.pub",
        "secret",
        "ca.pem",
    ):
        site.write("x", name)
    return site


def test_paths(filled) -> None:
    snapshot = filled.load()
    root = filled.root
    assert snapshot.bundle_paths("digits") == (root / "models/a.edgb", root / "models/b.edgb")
    assert set(snapshot.bundle_paths("gate")) == {
        root / "gate.edgb",
        Path("/abs/x.edgb"),
        root.parent / "up.edgb",
    }
    assert snapshot.resolve("a/../b") == root / "b"
    with pytest.raises(KeyError):
        snapshot.bundle_paths("none")


def test_a_root_with_pattern_characters(site, tmp_path: Path) -> None:
    site = type(site)(tmp_path / "a[1]")
    site.write("trust: {require_signatures: false}\nmodels: {m: {bundle: 'x*.edgb'}}\n")
    site.write("x", "x1.edgb")
    assert site.load().bundle_paths("m") == (site.root / "x1.edgb",)


@pytest.mark.parametrize("pattern", ["m.edgb", "'*.edgb'"])
def test_a_bundle_that_may_not_be_looked_at_is_a_problem_and_no_crash(site, pattern: str) -> None:
    """By a link into a folder of others, say; at a start that would be the end of the daemon."""
    site.write(f"trust: {{require_signatures: false}}\nmodels: {{m: {{bundle: {pattern}}}}}\n")
    (site.root / "m.edgb").symlink_to("x" * 300)
    (problem,) = check_files(site.load())
    assert problem.path == "models.m.bundle"
    assert ("File name too long" in problem.message) == (pattern == "m.edgb")


def test_a_pattern_of_folders_is_no_folder_that_is_missing(site) -> None:
    site.write("trust: {require_signatures: false}\nmodels: {m: {bundle: '*/m.edgb'}}\n")
    site.write("x", "a/other.edgb")
    (problem,) = check_files(site.load())
    assert problem.message.endswith("/*/m.edgb")


def test_check_files_points_at_lines(filled) -> None:
    snapshot = filled.load()
    assert [problem.path for problem in check_files(snapshot)] == [
        "models.gate.bundle[0]",
        "models.gate.bundle[1]",
        "models.gate.bundle[2]",
    ]
    for name in ("models/a.edgb", "models/b.edgb", "keys/a.pub", "secret", "ca.pem"):
        (filled.root / name).unlink()
    (filled.root / "ca.pem").mkdir()
    found = {problem.path: problem for problem in check_files(snapshot)}
    assert set(found) >= {
        "models.digits.bundle", "trust.keys[0]", "mqtt.password.file", "mqtt.tls.ca",
    }  # fmt: skip
    assert found["models.digits.bundle"].line == 8
    assert "no file matches" in found["models.digits.bundle"].message
    assert "is a folder, where a file is expected" in found["mqtt.tls.ca"].message


def test_digest_covers_names_and_bytes(site) -> None:
    site.write("node: a\n")
    digests = {site.load().digest}
    site.write("node: a \n")
    digests.add(site.load().digest)
    site.write("log: {}\n", "conf.d/a.yaml")
    digests.add(site.load().digest)
    (site.root / "conf.d/a.yaml").rename(site.root / "conf.d/b.yaml")
    digests.add(site.load().digest)
    assert len(digests) == 4
    assert site.load().digest in digests


def test_full_digest_covers_bundles(filled) -> None:
    snapshot = filled.load()

    def digest() -> str:
        return full_digest(snapshot, lambda path: f"{path.stat().st_size}:{path.read_text()[:1]}")

    digests = {snapshot.digest, digest()}
    filled.write("y", "models/a.edgb")
    digests.add(digest())
    filled.write("yy", "models/a.edgb")
    digests.add(digest())
    filled.write("yy", "models/z.edgb")
    digests.add(digest())
    filled.write("yy", "gate.edgb")
    digests.add(digest())
    assert len(digests) == 6


def test_problem_of_a_field_that_was_not_written(site) -> None:
    site.write("node: a\n")
    problem = site.load().problem("mqtt.host", "cannot be reached")
    assert str(problem) == f"{site.root}/edged.yaml:1:1: mqtt.host: cannot be reached"


def test_the_socket_starts_at_the_directory_of_the_file(filled) -> None:
    filled.write("listen: {socket: {path: run/edged.sock}}" + TEXT)
    assert filled.load().config.listen.socket.path == str(filled.root / "run/edged.sock")
