import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edged.errors import FieldError
from edged.processing import outputs
from edged.processing.outputs import activate, build_output
from edged.specs import OutputProcessing, OutputSpec
from tests.fakes.manifests import make_manifest

X = [("x", "float32", ("batch", 2))]
PLAIN = make_manifest(X, [("y", "float32", ("batch", 3)), ("n", "int64", ("batch",))])
LABELS = make_manifest(
    X,
    [("n", "int64", ("batch",)), ("p", "float32", ("batch", 3))],
    output_processing={"p": OutputProcessing(activation="softmax", labels=("a", "b", "c"))},
)
SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]], np.float32)


def rows(manifest, values, **spec):
    return build_output(OutputSpec(**spec), manifest)(values)


def test_plain_outputs_by_name_one_dict_a_row():
    got = rows(PLAIN, {"y": SCORES, "n": np.array([3, 4])})
    assert got == [
        {"y": SCORES[0].tolist(), "n": 3},
        {"y": SCORES[1].tolist(), "n": 4},
    ]
    assert type(got[0]["n"]) is int


def test_a_named_output_alone():
    assert rows(PLAIN, {"y": SCORES, "n": np.array([3, 4])}, tensor="n") == [{"n": 3}, {"n": 4}]


def test_the_output_with_labels_is_ranked():
    logits = np.log(SCORES + 1e-9)
    got = rows(LABELS, {"n": np.array([1, 0]), "p": logits})
    assert got[0]["label"] == "b"
    assert got[0]["score"] == pytest.approx(0.7)
    assert [entry["label"] for entry in got[0]["top"]] == ["a", "b", "c"]
    assert got[1]["label"] == "a", "equal scores: the first wins"


def test_top_k_is_best_first_and_never_more_than_there_is():
    got = rows(LABELS, {"p": SCORES, "n": None}, top_k=2, activation="none")
    assert [entry["label"] for entry in got[0]["top"]] == ["b", "c"]
    assert len(rows(LABELS, {"p": SCORES}, top_k=9)[0]["top"]) == 3


def test_without_labels_the_label_is_the_entrys_number():
    got = rows(PLAIN, {"y": SCORES}, top_k=1)
    assert got[0] == {
        "label": 1,
        "score": pytest.approx(0.7),
        "top": [{"label": 1, "score": pytest.approx(0.7)}],
    }


def test_labels_can_be_switched_off():
    outputs = {"n": np.array([1]), "p": np.ones((1, 3), np.float32)}
    third = pytest.approx(1 / 3)
    assert rows(LABELS, outputs, labels=False) == [{"n": 1, "p": [third] * 3}]


def test_threshold_leaves_out_entries_below():
    got = rows(LABELS, {"p": SCORES}, activation="none", threshold=0.6)
    assert [entry["label"] for entry in got[0]["top"]] == ["b"]
    assert got[1] == {"label": None, "score": None, "top": []}


def test_nan_is_null_and_never_the_best():
    values = np.array([[np.nan, 0.2, -np.inf], [np.nan] * 3], np.float32)
    got = rows(LABELS, {"p": values}, activation="none")
    assert (got[0]["label"], got[1]["label"]) == ("b", None)
    assert got[0]["top"][0] == {"label": "a", "score": None}
    assert rows(PLAIN, {"y": values, "n": np.array([1, 2])})[0]["y"] == [
        None,
        pytest.approx(0.2),
        None,
    ]
    json.dumps(got, allow_nan=False)


def test_outputs_without_rows_are_whole():
    manifest = make_manifest(X, [("g", "float32", (2, 2)), ("y", "float32", ("batch", 1))])
    got = rows(manifest, {"g": np.eye(2, dtype=np.float32), "y": np.ones((2, 1), np.float32)})
    assert got == [{"y": [1.0], "g": [[1, 0], [0, 1]]}] * 2
    scalar = make_manifest(X, [("s", "bool", ())])
    assert rows(scalar, {"s": np.array(True)}) == [{"s": True}]


def test_a_row_of_fixed_length_one():
    manifest = make_manifest(X, [("y", "float32", (1, 2))])
    assert rows(manifest, {"y": np.array([[1, 2]], np.float32)}) == [{"y": [1, 2]}]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"tensor": "nope"}, "output.tensor"),
        ({"tensor": "n", "top_k": 1}, "output.top_k"),
        ({"tensor": "n", "threshold": 0.5}, "output.threshold"),
        ({"tensor": "n", "activation": "softmax"}, "output.activation"),
    ],
)
def test_what_cannot_fit_is_refused_at_check_time(spec, path):
    with pytest.raises(FieldError) as caught:
        build_output(OutputSpec(**spec), PLAIN)
    assert caught.value.path == path


FLOATS = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(width=16, allow_nan=False, allow_infinity=False),
)


@given(FLOATS)
def test_activations_are_stable(scores):
    softmax, sigmoid = activate(scores, "softmax"), activate(scores, "sigmoid")
    np.testing.assert_allclose(softmax.sum(axis=-1), 1.0)
    assert ((sigmoid >= 0) & (sigmoid <= 1)).all()
    np.testing.assert_allclose(sigmoid + activate(-scores, "sigmoid"), 1.0)


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.just(3))),
    st.sampled_from(["none", "softmax", "sigmoid"]),
    st.integers(0, 4),
)
def test_any_floats_become_json(scores, activation, top_k):
    for manifest in (LABELS, PLAIN):
        got = rows(
            manifest, {"p": scores, "y": scores, "n": np.zeros(len(scores), np.int64)},
            activation=activation, top_k=top_k,
        )  # fmt: skip
        json.dumps(got, allow_nan=False)
        assert len(got) == len(scores)


@given(
    st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), float("-inf")]),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from(["float32", "float64", "float16"]),
    st.integers(0, 4),
)
def test_short_lists_rank_as_long_ones_do(scores: list[float], dtype: str, top_k: int):
    ranking = outputs._Ranking("y", "none", (), top_k, None)
    row = np.array(scores, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "_FEW", 0)
        long = ranking._row(row)
    assert ranking._row(row) == long


def test_texts_are_strings():
    manifest = make_manifest(
        X,
        [("t", "uint8", ("found", 3)), ("s", "float32", ("found",))],
        output_processing={"t": OutputProcessing(text=True)},
    )
    values = {"t": np.array([[65, 66, 0], [67, 0, 0]], np.uint8), "s": np.ones(2, np.float32)}
    assert rows(manifest, values) == [{"t": ["AB", "C"], "s": [1, 1]}]
