"""The lock of a recipe: written on request, held to, and exact about what differs."""

import json

import numpy as np
import pytest

from converters.cli import main
from converters.errors import ConversionError
from converters.lock import Facts, list_differences, open_lock


@pytest.fixture
def recipe(linear, tmp_path):
    linear()
    path = tmp_path / "r.yaml"
    path.write_text("source: linear.onnx\nsamples: rows.npy\nname: m\nrelease: 1\n")
    return path


def convert(recipe, *words):
    output = recipe.parent / "m.edgb"
    output.unlink(missing_ok=True)
    return main(["--recipe", str(recipe), "-o", str(output), "--no-report", *words])


def test_a_lock_is_written_once_and_agrees_with_itself(recipe):
    lock = recipe.parent / "r.lock.json"
    assert convert(recipe, "--lock") == 0
    first = lock.read_bytes()
    facts = json.loads(first)
    assert set(facts["converter"]) == {"python", "edged", "msgspec", "numpy", "onnx", "onnxruntime"}
    assert {"python", "onnx", "numpy", "onnxruntime"} <= set(facts["framework"])
    assert set(facts["inputs"]) == {"source", "samples"}
    assert convert(recipe) == 0
    assert lock.read_bytes() == first


@pytest.mark.parametrize(
    ("section", "name", "early"),
    [
        pytest.param("converter", "onnx", True, marks=pytest.mark.slow),
        ("framework", "onnxruntime", False),
        pytest.param("inputs", "source", True, marks=pytest.mark.slow),
    ],
)
def test_what_differs_is_refused_by_name_and_taken_on_request(recipe, capsys, section, name, early):
    lock = recipe.parent / "r.lock.json"
    assert convert(recipe, "--lock") == 0
    right = lock.read_bytes()
    facts = json.loads(right)
    facts[section][name] = "0.0.1"
    lock.write_text(json.dumps(facts))
    capsys.readouterr()
    assert convert(recipe) == 65
    err = capsys.readouterr().err
    assert f"{section} {name}: locked 0.0.1, now " in err
    assert "--update-lock" in err
    assert ("converting with" in err) is not early  # told before anything slow where it is known
    assert not (recipe.parent / "m.edgb").exists()
    assert convert(recipe, "--update-lock") == 0
    assert lock.read_bytes() == right


@pytest.mark.slow
def test_other_samples_are_another_input(recipe, capsys):
    assert convert(recipe, "--lock") == 0
    np.save(recipe.parent / "rows.npy", np.ones((9, 3), "f4"))
    assert convert(recipe) == 65
    assert "inputs samples: locked " in capsys.readouterr().err


@pytest.mark.slow
def test_a_failed_conversion_writes_no_lock(recipe):
    np.save(recipe.parent / "rows.npy", np.ones((9, 4), "f4"))
    assert convert(recipe, "--lock") == 65
    assert not (recipe.parent / "r.lock.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": "edged-lock-v2"}', "\xff"])
def test_what_is_no_lock_is_refused_and_may_be_replaced(recipe, capsys, text):
    (recipe.parent / "r.lock.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConversionError, match="not a lock of this version"):
        open_lock(recipe, write=False, update=False)
    assert open_lock(recipe, write=False, update=True) is not None


def test_a_lock_belongs_to_a_recipe():
    with pytest.raises(ConversionError, match="belong to a --recipe"):
        open_lock(None, write=True, update=False)
    assert open_lock(None, write=False, update=False) is None


def test_differences_are_listed_in_one_order_with_short_digests():
    old = Facts(
        converter={"onnx": "1"}, framework={"torch": "2", "onnx": "1"}, inputs={"source": "a" * 64}
    )
    new = Facts(
        converter={"onnx": "1"}, framework={"onnx": "1", "b": "1"}, inputs={"source": "c" * 64}
    )
    assert list_differences(old, new) == [
        "framework b: locked nothing, now 1",
        "framework torch: locked 2, now nothing",
        "inputs source: locked aaaaaaaaaaaa…, now cccccccccccc…",
    ]
    assert (
        list_differences(old, Facts(converter={"onnx": "1"}, framework={}, inputs=old.inputs)) == []
    )
