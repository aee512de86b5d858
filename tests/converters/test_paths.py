"""Pipes, devices and outputs that would hit what they are made of."""

import os
import stat

import numpy as np
import pytest

from converters.cli import main
from converters.errors import ConversionError
from converters.paths import check_output, check_plain, check_replaceable


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_never_ends_is_not_opened(pipe, tmp_path):
    with pytest.raises(ConversionError, match=r'source ".*pipe": is a pipe, expected a file'):
        check_plain(pipe, "source")
    with pytest.raises(ConversionError, match='"/dev/zero": is a device'):
        check_plain(tmp_path.__class__("/dev/zero"), "samples")
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(ConversionError, match="is a pipe"):
        check_plain(tmp_path / "link", "source")
    check_plain(tmp_path, "source")
    check_plain(tmp_path / "none", "source")
    check_plain(tmp_path / "a\0b", "source")


def test_names_that_no_text_can_hold(tmp_path):
    with pytest.raises(ConversionError, match="not UTF-8, or the locale"):
        check_plain(tmp_path / os.fsdecode(b"m\xff"), "source")
    with pytest.raises(ConversionError, match="too long for a file") as told:
        check_plain(tmp_path / ("a" * 5000), "source")
    assert len(told.value.message) < 300


def test_an_output_replaces_nothing_but_a_bundle(pipe, tmp_path):
    with pytest.raises(ConversionError, match="is a pipe"):
        check_replaceable(pipe)
    with pytest.raises(ConversionError, match="is a folder"):
        check_replaceable(tmp_path)
    with pytest.raises(ConversionError, match="is a device"):
        check_replaceable(tmp_path.__class__("/dev/null"))
    check_replaceable(tmp_path / "new")
    with pytest.raises(ConversionError, match="expected the name of a file"):
        check_output(tmp_path.__class__(""), {})
    with pytest.raises(ConversionError, match=r'there is no folder ".*no"; make it'):
        check_output(tmp_path / "no" / "m.edgb", {})
    (tmp_path / "m.onnx").touch()
    os.link(tmp_path / "m.onnx", tmp_path / "same")
    with pytest.raises(ConversionError, match="is the source itself"):
        check_output(tmp_path / "same", {"source": str(tmp_path / "m.onnx")})
    check_output(tmp_path / "m.edgb", {"source": str(tmp_path / "m.onnx")})


def words(recipe, output, *more):
    asked = [recipe.source, "-o", str(output), "--name", "m", "--release", "1", "--empty-env=off"]
    return [*asked, "--samples", recipe.samples, *more]


@pytest.mark.parametrize("which", ["source", "samples", "recipe", "key", "labels", "folder"])
def test_a_pipe_in_any_place_is_told_at_once(linear, pipe, tmp_path, capsys, which):
    recipe = linear()
    asked = words(recipe, tmp_path / "m.edgb")
    if which in ("recipe", "key", "labels"):
        pipe.chmod(0o600)
        asked += [f"--{which}", f"@{pipe}" if which == "labels" else str(pipe)]
    elif which == "folder":
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "saved_model.pb").touch()
        pipe.rename(tmp_path / "saved" / "pipe")
        asked[0] = str(tmp_path / "saved")
        asked += ["--trust"]
    else:
        asked[asked.index(getattr(recipe, which))] = str(pipe)
    assert main(asked) == (78 if which == "key" else 65)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "is a pipe" in last or "not a file" in last
    assert not (tmp_path / "m.edgb").exists()


@pytest.mark.parametrize("what", ["source", "samples", "key", "recipe"])
def test_what_it_is_made_of_survives(linear, tmp_path, capsys, what):
    from edged.store.keys import generate_key

    recipe = linear()
    generate_key(tmp_path / "k")
    (tmp_path / "r.yaml").write_text("edges: none\n")
    other = {"key": str(tmp_path / "k.key"), "recipe": str(tmp_path / "r.yaml")}
    output = other[what] if what in other else getattr(recipe, what)
    before = np.fromfile(output, "u1").tobytes()
    more = [f"--{what}", other[what]] if what in other else []
    assert main(words(recipe, output, *more)) == 65
    assert f"is the {what} itself" in capsys.readouterr().err
    assert np.fromfile(output, "u1").tobytes() == before


def test_a_device_by_the_bundles_or_the_reports_name_stays(linear, tmp_path, capsys):
    recipe = linear()
    os.mkfifo(tmp_path / "m.edgb")
    assert main(words(recipe, tmp_path / "m.edgb")) == 65
    os.mkfifo(tmp_path / "n.report.html")
    assert main(words(recipe, tmp_path / "n.edgb")) == 65
    assert capsys.readouterr().err.count("is a pipe, expected a file or a new name") == 2
    assert stat.S_ISFIFO((tmp_path / "m.edgb").stat().st_mode)
    assert not (tmp_path / "n.edgb").exists()
