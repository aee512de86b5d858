"""``edged check`` says where no socket can be made, at its line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.fakes.site import Site
from tests.verdicts import check_config

DOORS = ("socket", "admin", "http", "grpc", "metrics")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "run").symlink_to("/run")
    return Site(tmp_path)


def problems(site: Site, listen: str) -> list[str]:
    """What is said of the places to listen, from the line on."""
    site.write(f"listen:\n  {listen}\n")
    assert check_config(site.config, with_files=False)[0] == []
    found, _ = check_config(site.config, with_files=True)
    return [one.removeprefix(f"{site.config}:") for one in found]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("folder", "/folder is a folder; name the socket in it, as "),
        ("file", "/file is there and is not a socket; remove it or choose another path"),
        ("file/s", "/file/s: what stands before the last / is a file; expected a folder"),
        ("none/s", "and the daemon makes none; make it: mkdir -p "),
        ("dangling/s", "and the daemon makes none; make it: mkdir -p "),
        ("state/none/s", "and the daemon makes none; make it: mkdir -p "),
        ("n" * 120, "a Unix socket's path has 107 at most"),
    ],
)
def test_no_socket_can_be_there(site: Site, door: str, path: str, said: str) -> None:
    (found,) = problems(site, f"{door}: {{path: {path}}}")
    place, _, words = found.partition(": ")
    assert place.startswith("5:")
    assert words.startswith(f"listen.{door}.path: ")
    assert said in words


@pytest.mark.parametrize("door", DOORS)
def test_no_such_group(site: Site, door: str) -> None:
    (found,) = problems(site, f"{door}: {{path: s, group: nobody-has-this}}")
    place, _, words = found.partition(": ")
    assert place.startswith("5:")
    assert words == f'listen.{door}.group: no group is named "nobody-has-this" on this device'


def test_the_daemon_makes_its_state_directory(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.state = tmp_path / "deep/state"
    for path in ("deep/state/s", "deep/s"):
        assert problems(site, f"admin: {{path: {path}}}") == []


def test_what_may_be(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(site.directory / "s"))
        for path in ("s", "new", "/run/made-by-the-unit/s", "run/made-by-the-unit/s"):
            assert problems(site, f"socket: {{path: {path}, group: '0'}}") == []
