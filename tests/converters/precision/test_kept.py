"""Ranges of a calibration that is killed are gone on from, and give the same bytes as one that is not."""

import signal
import subprocess
import sys
import textwrap

import msgspec
import numpy as np
import pytest

from converters import convert
from converters.errors import ConversionError
from converters.precision import kept as module
from converters.precision import ranges
from converters.precision.kept import Kept, kept_beside, key_of
from converters.precision.lower import _key

SHAPES = {"low": (2,), "high": (2,)}
ENDS = {"low": np.array([-1.0, -np.inf]), "high": np.array([2.5, 1 / 3])}


@pytest.fixture
def at_once(monkeypatch):
    """Every chunk is kept."""
    monkeypatch.setattr(module, "SAVE_S", 0)


def test_what_was_kept_comes_back_exactly(tmp_path, at_once):
    path = kept_beside(tmp_path / "net-3.edgb")
    assert path.name == "net-3.edgb.calibration"
    Kept(path, "k").note("extremes", 3, ENDS)
    Kept(path, "k").note("extremes", 4, ENDS)
    again = Kept(path, "k")
    done, found = again.read("extremes", SHAPES)
    assert (done, again.resumed) == (4, 4)
    assert again.told()
    assert not Kept(path, "k").told()
    assert all(np.array_equal(found[name], ENDS[name]) for name in ENDS)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_only_for_the_same_model_rows_stage_and_values(tmp_path, at_once):
    path = tmp_path / "kept"
    Kept(path, "k").note("extremes", 3, ENDS)
    for key, stage, shapes in (
        ("other", "extremes", SHAPES), ("k", "histogram", SHAPES),
        ("k", "extremes", {"low": (3,), "high": (3,)}), ("k", "extremes", {"low": (2,)}),
    ):  # fmt: skip
        kept = Kept(path, key)
        assert (kept.read(stage, shapes), kept.resumed) == ((0, {}), 0)


@pytest.mark.parametrize("damage", [lambda d: d[:40], lambda d: b"notes of mine", lambda d: b""])
def test_a_file_that_is_damaged_or_none_of_ours_counts_for_nothing(tmp_path, at_once, damage):
    path = tmp_path / "kept"
    Kept(path, "k").note("extremes", 3, ENDS)
    path.write_bytes(damage(path.read_bytes()))
    assert Kept(path, "k").read("extremes", SHAPES) == (0, {})


def test_what_takes_seconds_is_never_written(tmp_path):
    kept = Kept(tmp_path / "kept", "k")
    kept.note("extremes", 3, ENDS)
    assert list(tmp_path.iterdir()) == []
    Kept().note("extremes", 3, ENDS)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, at_once):
    with pytest.raises(ConversionError, match="cannot be written"):
        Kept(tmp_path / "no" / "kept", "k").note("extremes", 3, ENDS)


def test_a_key_is_all_that_decides():
    assert key_of(b"model", "minmax", ("a",)) == key_of(b"model", "minmax", ["a"])
    assert len({key_of(b"m", "a"), key_of(b"n", "a"), key_of(b"m", "b"), key_of("m", "a")}) == 4


KILLED = """
    import os, signal, sys
    from converters import convert
    from converters.precision import kept
    from converters.recipe import make_recipe
    import msgspec
    kept.SAVE_S = 0
    honest, left = kept.Kept.note, int(sys.argv[3])
    def note(self, *arguments):
        global left
        honest(self, *arguments)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    kept.Kept.note = note
    recipe = make_recipe(msgspec.json.decode(sys.argv[1]))
    convert(recipe, sys.argv[2], empty_env="off")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "kill_at", "stage"),
    [
        ("minmax", 3, ranges.EXTREMES),
        ("percentile", 11, ranges.HISTOGRAM),
    ],
)
def test_killed_in_the_middle_it_goes_on_with_the_same_bytes(
    proven, tmp_path, monkeypatch, method, kill_at, stage
):
    """64 rows are eight chunks a pass."""
    fields = {"calibration_method": method}
    convert(proven.recipe(**fields), tmp_path / "whole.edgb", empty_env="off")
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "net.edgb"
    recipe = msgspec.to_builtins(proven.recipe(**fields))
    words = [msgspec.json.encode(recipe).decode(), str(output), str(kill_at)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *words],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [file.name for file in output.parent.iterdir()] == ["net.edgb.calibration"]
    noted = []
    monkeypatch.setattr(Kept, "note", lambda _, *args: noted.append(args[:2]))
    report = convert(proven.recipe(**fields), output, empty_env="off")
    total = 8
    assert noted == [(stage, number) for number in range(kill_at % total + 1, total + 1)]
    assert any(
        "a part of them by a run before that was cut off" in check.detail for check in report.checks
    )
    assert [file.name for file in output.parent.iterdir()] == ["net.edgb"]
    assert output.read_bytes() == (tmp_path / "whole.edgb").read_bytes()


def test_the_key_is_of_what_decides_the_ranges_and_of_nothing_else(net, proven):
    def key(columns=(), **fields):
        recipe = proven.recipe(**fields)
        contents = proven.contents(recipe)
        return _key(recipe, proven.converted, proven.proven, contents, columns)

    assert key() == key(max_accuracy_drop=0.3, target="jetpack6", golden_rows=20)
    others = {
        key(), key(calibration=str(net / "faint.npz")), key(calibration_method="percentile"),
        key(("a",)), key(capture={"topic": "a"}), key(truth="b"),
        key(input_processing={"image": {"kind": "image", "width": 8, "height": 8, "mode": "L"}}),
    }  # fmt: skip
    assert len(others) == 7
