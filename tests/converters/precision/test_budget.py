import numpy as np
import pytest

from converters.errors import ConversionError, ParityError
from converters.precision.budget import Judged, judge, refuse_loss, tell

EXACT = {"p": np.eye(4, dtype="f4")[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1]]}
RIGHT = EXACT["p"].argmax(1)


def moved(*rows):
    """The same scores with another best class in some rows."""
    scores = EXACT["p"].copy()
    scores[list(rows)] = np.roll(scores[list(rows)], 1, axis=1)
    return {"p": scores}


def test_right_answers_are_counted_where_they_are_known():
    truth = RIGHT.copy()
    truth[0] = 3  # float32 itself is wrong there
    judged = judge(EXACT, moved(1, 2), truth)
    assert (judged.metric, judged.before, judged.after) == ("accuracy", 0.9, 0.7)
    assert judged.lost == pytest.approx(0.2)
    better = judge(EXACT, {"p": np.eye(4, dtype="f4")[truth]}, truth)
    assert better.lost == pytest.approx(-0.1)


def test_else_labels_have_to_stay_and_the_worst_output_counts():
    judged = judge({**EXACT, "q": EXACT["p"]}, {**EXACT, "q": moved(4)["p"]}, None)
    assert (judged.metric, judged.output, judged.lost) == (
        "label agreement",
        "q",
        pytest.approx(0.1),
    )


def test_a_label_counts_before_scores_whose_places_need_not_be_its_name():
    exact = {**EXACT, "label": RIGHT + 5}
    judged = judge(exact, {**moved(0), "label": RIGHT + 5}, RIGHT + 5)
    assert (judged.output, judged.lost) == ("label", 0)


def test_outputs_without_classes_are_judged_by_their_error():
    exact = np.arange(100, dtype="f4").reshape(50, 2, 1)
    judged = judge({"y": exact}, {"y": exact + 3}, None)
    assert judged.metric == "error"
    assert judged.lost == pytest.approx(3 / exact.std())
    assert judge({"y": exact[:1] * 0}, {"y": exact[:1] * 0 + 1}, None).lost == 1
    with pytest.raises(ConversionError, match="no output gives a class a row"):
        judge({"y": exact}, {"y": exact}, np.zeros(50, "i8"))


def test_answers_that_are_no_class_of_the_model_are_refused():
    with pytest.raises(ConversionError, match=r"classes from 0 to 3.*got 1 to 4"):
        judge(EXACT, EXACT, RIGHT + 1)


def test_nan_is_refused():
    with pytest.raises(ParityError, match='output "p" is not finite'):
        judge(EXACT, {"p": EXACT["p"] * np.nan}, None)


def test_a_loss_beyond_the_budget_is_told_with_figures_and_what_to_do():
    judged = Judged("accuracy", "p", 400, 0.975, 0.965)
    refuse_loss(judged, 0.01)
    with pytest.raises(ParityError) as caught:
        refuse_loss(judged, 0.005)
    message = caught.value.message
    assert '1.00% of accuracy (97.50% → 96.50% of output "p" on 400 rows)' in message
    for word in ("budget is 0.50%", "--calibration", "percentile", "--max-accuracy-drop"):
        assert word in message


def test_each_metric_is_told():
    assert "differ from float32's" in tell(Judged("label agreement", "p", 9, 1.0, 0.5))
    assert "root mean square" in tell(Judged("error", "p", 9, 0.0, 0.5))
