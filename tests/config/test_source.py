"""Which files are read, and which are refused because others could have written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config import source as sources
from edged.config.load import ConfigProblemsError, load
from edged.config.source import MAX_FILE_BYTES, distrust, main_file, read_source


def test_directory_or_file_and_conf_d(site) -> None:
    main = site.write("node: a\n")
    site.write("log: {level: debug}\n", "conf.d/20-b.yaml")
    site.write("runtime: {threads: 2}\n", "conf.d/10-a.yaml")
    site.write("broken: [", "conf.d/.10-a.yaml.swp")
    site.write("broken: [", "conf.d/readme.txt")
    snapshot = load(main)
    assert list(snapshot.files) == ["edged.yaml", "conf.d/10-a.yaml", "conf.d/20-b.yaml"]
    assert snapshot == load(site.root)
    assert snapshot.root == site.root
    assert (snapshot.config.log.level, snapshot.config.runtime.threads) == ("debug", 2)


def test_yml_is_not_silently_ignored(site) -> None:
    site.write("node: a\n")
    site.write("log: {level: debug}\n", "conf.d/a.yml")
    assert "rename it to .yaml" in site.problem().message


def test_a_name_that_is_no_text_is_refused(site) -> None:
    """It could be neither kept with the last good configuration nor said in the status."""
    site.write("node: a\n")
    site.write("log: {level: debug}\n", os.fsdecode(b"conf.d/\xff.yaml"))
    assert str(site.problem()).endswith(
        r"conf.d/\udcff.yaml: has a name that is not UTF-8; rename it"
    )


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    """The daemon ended with a traceback when it kept a copy, and edged check had found it good."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "edged.yaml").write_text("models: {}\n")
    with pytest.raises(ConfigProblemsError) as caught:
        read_source(folder)
    assert [str(one) for one in caught.value.problems] == [
        rf"{tmp_path}/\udcff/edged.yaml: has a path that is not UTF-8; rename or move it"
    ]


def test_missing_file(site) -> None:
    """What is there in its place is said: most often it was mistyped."""
    assert site.problem().message.endswith("No such file or directory")
    site.write("node: a\n", "other.yaml")
    assert site.problem().message.endswith("No such file or directory; the folder has: other.yaml")
    site.write("node: a\n", "edged.yml")
    assert site.problem().message.endswith("; edged.yml is there: rename it")
    with pytest.raises(ConfigProblemsError, match=r"; there is no folder .*/no either"):
        load(site.root / "no/edged.yml")


@pytest.mark.parametrize("name", ["edged.yaml", "conf.d/a.yaml"])
@pytest.mark.hostile("F9 a file that others may write or that is another's")
def test_file_writable_by_others_refused(site, name: str) -> None:
    """ "file writable by others, or wrong owner → refused." """
    site.write("node: a\n")
    path = site.write("log: {level: info}\n", name)
    site.load() if name != "edged.yaml" else load(site.write("node: a\n"))
    path.chmod(0o646)
    problem = site.problem()
    assert problem.file == str(path)
    assert "chmod o-w" in problem.message
    path.chmod(0o644)
    site.load()


def test_directory_writable_by_others_refused(site) -> None:
    site.write("node: a\n")
    site.write("log: {level: info}\n", "conf.d/a.yaml")
    for directory in (site.root, site.root / "conf.d"):
        directory.chmod(0o757)
        assert site.problem().file == str(directory)
        directory.chmod(0o755)
    site.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.hostile("F9 a file that others may write or that is another's")
def test_wrong_owner_refused(site) -> None:
    path = site.write("node: a\n")
    os.chown(path, 12345, -1)
    assert "belongs to user id 12345" in site.problem().message
    os.chown(path, 0, -1)
    os.chown(site.root, 12345, -1)
    assert "chown root" in site.problem().message


def test_fifo_and_directory_refused(site) -> None:
    os.mkfifo(site.root / "edged.yaml")
    assert site.problem().message == "is not a regular file"
    (site.root / "edged.yaml").unlink()
    site.write("node: a\n")
    (site.root / "conf.d" / "x.yaml").mkdir(parents=True)
    assert site.problem().file.endswith("x.yaml")


def test_size_cap(site) -> None:
    site.write(b"node: a\n#" + b"x" * (MAX_FILE_BYTES - 9))
    site.load()
    site.write(b"node: a\n#" + b"x" * (MAX_FILE_BYTES - 8))
    assert "larger than" in site.problem().message


def test_kubernetes_links_are_followed(site) -> None:
    data = site.root / "..2026_01"
    data.mkdir()
    (data / "edged.yaml").write_text("node: a\n")
    (site.root / "..data").symlink_to("..2026_01")
    (site.root / "edged.yaml").symlink_to("..data/edged.yaml")
    snapshot = site.load()
    assert snapshot.config.node == "a"
    assert snapshot.root == site.root


def test_directory_of_a_link_target_must_be_trusted(site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.yaml").write_text("node: a\n")
    (site.root / "edged.yaml").symlink_to(other / "x.yaml")
    site.load()
    other.chmod(0o777)
    assert site.problem().file == str(other)


def test_a_read_only_mount_may_have_any_mode() -> None:
    """Kubernetes mounts its volumes with mode 0777, read-only."""
    info = os.stat_result((0o100777, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    assert distrust(info, read_only=True) is None
    assert "mode 0777" in str(distrust(info, read_only=False))


def test_owner_is_root_or_this_process() -> None:
    info = os.stat_result((0o100644, 0, 0, 1, 1000, 0, 0, 0, 0, 0))
    assert distrust(info, read_only=False, user=1000) is None
    assert "user id 1000" in str(distrust(info, read_only=False, user=1001))


def test_main_file(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").touch()
    assert main_file(tmp_path) == tmp_path / "edged.yaml"
    assert main_file(tmp_path / "x.yaml") == tmp_path / "x.yaml"
    assert main_file(tmp_path / "not" / "there") == tmp_path / "not/there/edged.yaml"
    for name in ("later.yaml", "later.yml"):
        assert main_file(tmp_path / name) == tmp_path / name


def test_a_directory_that_changes_while_read_is_read_again(
    site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("node: a\n")
    site.write("log: {level: info}\n", "conf.d/a.yaml")
    original = sources._read_file
    left = 3

    def meddle(path: Path, problems: list) -> bytes | None:
        nonlocal left
        data = original(path, problems)
        if path.name == "edged.yaml" and left:
            left -= 1
            site.write(f"node: b{left}\n")
        return data

    monkeypatch.setattr(sources, "_read_file", meddle)
    assert read_source(site.root).files["edged.yaml"] == b"node: b0\n"
    left = 1000
    with pytest.raises(ConfigProblemsError, match="kept changing"):
        read_source(site.root)


def test_number_of_files_is_bounded(site) -> None:
    site.write("node: a\n")
    for number in range(300):
        site.write("{}\n", f"conf.d/{number:03}.yaml")
    assert "holds 300 files" in site.problem().message
