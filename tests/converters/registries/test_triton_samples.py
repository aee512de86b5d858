"""Warm-up requests as rows: data files, random data, and zeros that prove nothing."""

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.registries.triton_model import read_model
from converters.registries.triton_samples import write_warmup

HEAD = 'backend: "onnxruntime" max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 2 } '


def warmup(rest, batch=1, dims=2):
    inside = f'key: "x" value {{ data_type: TYPE_FP32 dims: {dims} {rest} }}'
    return f'model_warmup {{ name: "w" batch_size: {batch} inputs {{ {inside} }} }} '


def rows(repository, tmp_path, config, files=None, batched=True):
    repository("m", HEAD + config, files=files)
    target = tmp_path / "w.npz"
    if not write_warmup(read_model(repository.root, "m"), batched, target):
        return None
    with np.load(target) as archive:
        return archive["x"]


def test_a_file_holds_one_row_or_all(repository, tmp_path):
    one, two = np.array([1, 2], "f4"), np.array([[3, 4], [5, 6]], "f4")
    config = warmup('input_data_file: "one"', 2) + warmup('input_data_file: "two"', 2)
    files = {"warmup/one": one.tobytes(), "warmup/two": two.tobytes()}
    got = rows(repository, tmp_path, config, files)
    assert got.tolist() == [[1, 2], [1, 2], [3, 4], [5, 6]]


def test_random_rows_are_the_same_each_time(repository, tmp_path):
    first = rows(repository, tmp_path, warmup("random_data: true", 3))
    assert first.shape == (3, 2)
    assert write_warmup(read_model(repository.root, "m"), True, tmp_path / "w2.npz")
    assert (tmp_path / "w.npz").read_bytes() == (tmp_path / "w2.npz").read_bytes()


@pytest.mark.parametrize(
    "config",
    [
        "",
        warmup("zero_data: true", 4),
        warmup("random_data: true", 1),  # one row proves nothing
        warmup("random_data: true", 2) + warmup("random_data: true", 2, dims=3),
        'model_warmup { name: "w" inputs { key: "other" value { dims: 1 random_data: true } } }',
    ],
)
def test_what_proves_nothing_is_not_taken(repository, tmp_path, config):
    assert rows(repository, tmp_path, config) is None


@pytest.mark.parametrize(
    ("config", "files", "words"),
    [
        (warmup('input_data_file: "../../secret"'), {}, "leaves the folder"),
        (warmup('input_data_file: "none"'), {"warmup/x": b""}, "No such file"),
        (warmup('input_data_file: "w"'), {"warmup/w": b"12345"}, "5 bytes, expected 8"),
        (warmup("random_data: true", dims=-1), {}, "expected sizes"),
        (warmup("random_data: true", 200, dims=10**9), {}, "are over"),
    ],
)
def test_a_wrong_warmup_is_told(repository, tmp_path, config, files, words):
    with pytest.raises(ConversionError, match=words):
        rows(repository, tmp_path, config, files)
