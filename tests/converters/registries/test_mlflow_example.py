"""The signature and the input example of an MLflow model, as names and samples."""

import json
from pathlib import Path

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.registries.mlflow_example import read_signature
from converters.registries.mlflow_model import resolve_folder


def test_a_table_brings_columns_and_a_csv(mlmodel, place):
    columns = [{"type": "double", "name": name, "required": True} for name in ("mass", "heat")]
    folder = mlmodel(
        flavors={"sklearn": {"pickled_model": "model.pkl"}},
        signature={"inputs": json.dumps(columns)},
        saved_input_example_info={"artifact_path": "input_example.json", "type": "dataframe"},
    )
    (folder / "model.pkl").write_bytes(b"x")
    example = {"columns": ["mass", "heat"], "data": [[1.5, True], [None, 3]]}
    (folder / "input_example.json").write_text(json.dumps(example))
    found = resolve_folder(folder, place)
    assert found.fields["input_processing"] == {
        "*": {"kind": "features", "names": ["mass", "heat"]}
    }
    assert Path(found.fields["samples"]).read_text() == "mass,heat\n1.5,1\n,3\n"


def test_several_tensors_are_named(mlmodel, place):
    folder = mlmodel()
    example = {"a": [[1], [2]], "b": [[2.5], [3]]}
    (folder / "input_example.json").write_text(json.dumps(example))
    with np.load(resolve_folder(folder, place).fields["samples"]) as samples:
        assert sorted(samples.files) == ["a", "b"]


@pytest.mark.parametrize("example", [[[1, 2, 3]], [1, 2, 3], 1, {"inputs": [[1, 2, 3]]}])
def test_an_example_of_one_row_is_no_samples(mlmodel, place, example):
    folder = mlmodel()
    (folder / "input_example.json").write_text(json.dumps(example))
    found = resolve_folder(folder, place)
    assert ("samples" in found.fields) == (example == [1, 2, 3])  # three rows of one number
    assert found.examples == ("samples" in found.fields)


def test_examples_that_are_no_samples(mlmodel, place):
    folder = mlmodel()
    for value, words in (
        ([["text"]], "cannot become an array of float32"),
        ([[1], [1, 2]], "cannot become an array"),
        ({"": [1, 2], "a": [1, 2]}, "without names"),
    ):
        (folder / "input_example.json").write_text(json.dumps(value))
        with pytest.raises(ConversionError, match=words):
            resolve_folder(folder, place)


def test_a_signature_of_columns_and_one_of_tensors():
    columns = [{"type": "double", "name": "mass"}, {"type": "string", "name": "kind"}]
    found = read_signature({"signature": {"inputs": json.dumps(columns)}})
    assert (found.columns, found.is_numeric, found.tensors) == (("mass", "kind"), False, ())
    nameless = read_signature({"signature": {"inputs": '[{"type": "double"}]'}})
    assert (nameless.columns, nameless.is_numeric) == ((), True)
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}
    assert read_signature({"signature": {"inputs": json.dumps([tensor])}}).tensors == (
        ("", "float32"),
    )
    assert read_signature({}) == read_signature({"signature": {"inputs": None}})


def test_an_example_of_another_kind_is_told(mlmodel, place):
    info = {"artifact_path": "input_example.json", "type": "sparse_matrix_csr"}
    folder = mlmodel(saved_input_example_info=info)
    (folder / "input_example.json").write_text('{"data": 3}')
    with pytest.raises(ConversionError, match="a sparse_matrix_csr cannot be samples"):
        resolve_folder(folder, place)
