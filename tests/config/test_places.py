"""Where a configuration hangs, links included, and the hash of what is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.config.places import (
    Place,
    find_followed,
    find_places,
    fingerprint,
    fingerprint_followed,
    trace,
)


def test_plain_file(site) -> None:
    main = site.write("node: a\n")
    places = find_places(main)
    assert places[site.root].names == {"edged.yaml", "conf.d"}
    assert places[site.root.parent].names == {"etc"}
    assert places[site.root / "conf.d"].patterns == {"*.yaml"}


def test_every_link_on_the_way_is_a_place(site) -> None:
    data = site.root / "..1"
    data.mkdir()
    (data / "edged.yaml").write_text("")
    (site.root / "..data").symlink_to("..1")
    main = site.root / "edged.yaml"
    main.symlink_to("..data/edged.yaml")
    assert list(trace(main)) == [
        (site.root, "edged.yaml"),
        (site.root, "..data"),
        (data, "edged.yaml"),
    ]


def test_missing_parts_and_loops_end(site) -> None:
    assert list(trace(site.root / "a" / "b" / "c")) == [(site.root, "a")]
    (site.root / "x").symlink_to("y")
    (site.root / "y").symlink_to("x")
    assert {name for _, name in trace(site.root / "x")} == {"x", "y"}
    (site.root / "up").symlink_to("../etc/z")
    assert list(trace(site.root / "up"))[-1] == (site.root, "z")


def test_what_matters() -> None:
    place = Place({".hidden"}, {"*.yaml"})
    assert place.matters("10-a.yaml")
    assert place.matters(".hidden")
    assert not place.matters(".10-a.yaml.swp")
    assert not place.matters(".a.yaml")
    assert not place.matters("edged.yaml~")


def test_followed(site) -> None:
    found = find_followed([site.root / "models" / "*.edgb", site.root / "a.pub"])
    assert found[site.root].names == {"models", "a.pub"}
    assert found[site.root / "models"].patterns == {"*.edgb"}
    assert find_followed([Path("/a*/b.edgb")]) == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda site: site.write("node: b\n"),
        lambda site: site.write("log: {}\n", "conf.d/b.yaml"),
        lambda site: (site.root / "conf.d/a.yaml").unlink(),
        lambda site: (site.root / "conf.d/a.yaml").rename(site.root / "conf.d/c.yaml"),
        lambda site: (site.root / "conf.d").chmod(0o777),
        lambda site: (site.root / "edged.yaml").chmod(0o600),
        lambda site: (site.root / "edged.yaml").unlink(),
        lambda site: ((site.root / "edged.yaml").unlink(), os.mkfifo(site.root / "edged.yaml")),
        lambda site: ((site.root / "edged.yaml").unlink(), (site.root / "edged.yaml").mkdir()),
    ],
)
def test_fingerprint_sees(site, change) -> None:
    main = site.write("node: a\n")
    site.write("log: {}\n", "conf.d/a.yaml")
    before = fingerprint(main)
    assert fingerprint(main) == before
    change(site)
    assert fingerprint(main) != before


def test_equal_size_and_time_are_still_noticed(site) -> None:
    main = site.write("node: a\n")
    info = main.stat()
    before = fingerprint(main)
    with main.open("r+") as file:
        file.write("node: b\n")
    os.utime(main, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert main.stat().st_size == info.st_size
    assert main.stat().st_mtime_ns == info.st_mtime_ns
    assert fingerprint(main) != before


def test_touch_is_no_change(site) -> None:
    main = site.write("node: a\n")
    before = fingerprint(main)
    os.utime(main, ns=(1, 1))
    site.write("junk", "conf.d/.a.yaml.swp")
    (site.root / "conf.d" / ".a.yaml.swp").unlink()
    (site.root / "conf.d").rmdir()
    assert fingerprint(main) == before


def test_fingerprint_of_followed(site) -> None:
    pattern = site.root / "*.edgb"
    empty = fingerprint_followed([pattern])
    site.write("x", "a.edgb")
    one = fingerprint_followed([pattern])
    assert one != empty
    site.write("xy", "a.edgb")
    assert fingerprint_followed([pattern]) not in (empty, one)
    assert fingerprint_followed([site.root / "none"])


def test_a_followed_file_rewritten_in_place_with_its_size_and_time(tmp_path: Path) -> None:
    """all mtimes 1970 → reload still noticed."""
    path = tmp_path / "m.edgb"
    path.write_bytes(b"old")
    os.utime(path, (0, 0))
    before = fingerprint_followed([path])
    assert fingerprint_followed([path]) == before
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, (0, 0))
    assert path.stat().st_mtime_ns == 0
    assert fingerprint_followed([path]) != before
