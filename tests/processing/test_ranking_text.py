import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edged.processing import outputs
from edged.processing.outputs import activate
from edged.processing.ranking_text import ranking_texts


@given(
    hnp.arrays(
        st.sampled_from(["float16", "float32", "float64", "int64", "bool"]),
        st.tuples(st.integers(0, 3), st.integers(1, 4)),
    ),
    st.sampled_from(["none", "softmax"]),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_documents_are_what_rows_become(scores, activation):
    labels = ('"', "%b", "ä", "")[: scores.shape[1]]
    ranking = outputs._Ranking("y", activation, labels, 0, None)
    made = ranking.documents(b'{"model":"100%s",', {"y": scores})
    encoded = [msgspec.json.encode(row) for row in ranking({"y": scores})]
    is_finite = np.isfinite(activate(scores, activation)).all()
    if made is not None:
        assert made == [b'{"model":"100%s",' + one[1:] for one in encoded]
    else:
        assert not is_finite or np.abs(scores).max() > 1e4, "too long a sum is left to the others"


@pytest.mark.parametrize(
    ("labels", "top_k", "threshold", "shape"),
    [((), 0, None, (2, 3)), (("a", "b", "c"), 1, None, (2, 3)), (("a", "b", "c"), 0, 0.1, (2, 3)),
     (("a", "b"), 0, None, (2, 3)), (("a", "b", "c"), 0, None, (3,))],
)  # fmt: skip
def test_what_has_no_short_way_to_json(labels, top_k, threshold, shape):
    ranking = outputs._Ranking("y", "none", labels, top_k, threshold)
    assert ranking.documents(b"{", {"y": np.zeros(shape)}) is None


def test_equal_scores_have_the_first_for_their_best():
    (text,) = ranking_texts(("a", "b"), [0.5, 0.5], b"{") or ()
    assert text == (
        b'{"label":"a","score":0.5,"top":[{"label":"a","score":0.5},{"label":"b","score":0.5}]}'
    )


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_what_json_has_no_word_for_is_left_to_others(score):
    assert ranking_texts(("a", "b"), [0.5, score], b"{") is None
