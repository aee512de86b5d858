"""XGBoost models through the source itself, against XGBoost's own numbers."""

import json

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import VotingClassifier

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.sandbox import run_source
from converters.sources import sklearn as estimators
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check

pytestmark = pytest.mark.frameworks
xgboost = pytest.importorskip("xgboost")
pytest.importorskip("onnxmltools")
source = pytest.importorskip("converters.sources.xgboost")

WINE, WINE_LABELS = load_wine(return_X_y=True)
CANCER, CANCER_LABELS = load_breast_cancer(return_X_y=True)
SUGAR, SUGAR_VALUES = load_diabetes(return_X_y=True)


def train(rows, targets, rounds=10, **params):
    return xgboost.train({"seed": 0, **params}, xgboost.DMatrix(rows, targets), rounds)


def export(tmp_path, booster, rows, ending="json", columns=()):
    path = tmp_path / f"m.{ending}"
    booster.save_model(path)
    return source.export(job(path, columns), {"*": rows})


def job(path, columns=()):
    return SourceJob(framework="xgboost", source=str(path), columns=columns)


@pytest.mark.parametrize(
    ("objective", "rows", "targets", "outputs"),
    [
        ("binary:logistic", CANCER, CANCER_LABELS, ["probabilities", "label"]),
        ("binary:logitraw", CANCER, CANCER_LABELS, ["prediction"]),
        ("multi:softprob", WINE, WINE_LABELS, ["probabilities", "label"]),
        ("multi:softmax", WINE, WINE_LABELS, ["probabilities", "label"]),
        ("reg:squarederror", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("reg:squaredlogerror", SUGAR, SUGAR_VALUES / 100, ["prediction"]),
        ("reg:pseudohubererror", SUGAR, SUGAR_VALUES / 100, ["prediction"]),
        ("reg:absoluteerror", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("reg:quantileerror", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("reg:gamma", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("reg:tweedie", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("count:poisson", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("rank:pairwise", SUGAR, SUGAR_VALUES // 100, ["prediction"]),
        ("rank:ndcg", SUGAR, SUGAR_VALUES // 100, ["prediction"]),
    ],
)
def test_objectives_give_their_own_numbers(tmp_path, objective, rows, targets, outputs):
    extra = {"num_class": 3} if objective.startswith("multi") else {}
    if objective == "reg:quantileerror":
        extra["quantile_alpha"] = 0.5
    exported = export(tmp_path, train(rows, targets, objective=objective, **extra), rows)
    assert list(exported.outputs) == outputs
    check(exported)


def test_without_samples_rows_are_made(tmp_path):
    path = tmp_path / "m.json"
    train(SUGAR * 10, SUGAR_VALUES).save_model(path)
    made = msgspec.structs.replace(job(path), generate=20)
    exported = source.export(made, {})
    assert exported.inputs["features"].shape == (20, 10)
    check(exported)


def test_missing_values_go_where_they_were_taught(tmp_path):
    rows = CANCER.copy()
    rows[::3, ::2] = np.nan
    check(export(tmp_path, train(rows, CANCER_LABELS, objective="binary:logistic"), rows))


def test_trees_that_vote_and_a_base_score(tmp_path):
    booster = train(
        CANCER, CANCER_LABELS, 4, objective="binary:logistic", num_parallel_tree=5, base_score=0.7
    )
    check(export(tmp_path, booster, CANCER, "ubj"))


def test_named_columns_are_renamed_on_a_copy(tmp_path, monkeypatch):
    names = [f"sensor {index}" for index in range(13)]
    rows = xgboost.DMatrix(WINE, WINE_LABELS, feature_names=names)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, rows, 5)
    shuffled = names[::-1]
    exported = export(tmp_path, booster, WINE[:, ::-1], columns=tuple(shuffled))
    assert exported.columns == tuple(names)
    np.testing.assert_array_equal(exported.inputs["features"], WINE.astype("f4"))
    assert [entry.trap for entry in exported.remedies] == ["column-names"]
    check(exported)
    # The control: with its own names, alone or as a step, the converter refuses the booster.
    step = xgboost.XGBClassifier(n_estimators=3)
    step.fit(pd.DataFrame(WINE, columns=names), WINE_LABELS)
    voting = VotingClassifier([("x", step)], voting="soft").fit(WINE, WINE_LABELS)
    voting.estimators_ = [step]
    joblib.dump(voting, tmp_path / "v.joblib")
    check(estimators.export(job(tmp_path / "v.joblib"), {"*": WINE}))
    monkeypatch.setattr(source, "_drop_names", lambda booster: None)
    with pytest.raises(UnsupportedModelError, match="cannot convert this booster"):
        export(tmp_path, booster, WINE)
    with pytest.raises(UnsupportedModelError, match="cannot convert this VotingClassifier"):
        estimators.export(job(tmp_path / "v.joblib"), {"*": WINE})


def test_an_estimator_stops_at_its_best_round_and_a_booster_does_not(tmp_path, monkeypatch):
    model = xgboost.XGBClassifier(n_estimators=200, early_stopping_rounds=3, random_state=0)
    model.fit(
        CANCER[::2], CANCER_LABELS[::2], eval_set=[(CANCER[1::2], CANCER_LABELS[1::2])], verbose=0
    )
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    exported = export(tmp_path, model, CANCER)
    own = model.predict_proba(CANCER.astype("f4"))
    np.testing.assert_allclose(exported.outputs["probabilities"], own, atol=1e-7)
    assert [entry.trap for entry in exported.remedies] == ["best-round"]
    check(exported)
    joblib.dump(model, tmp_path / "m.joblib")
    check(estimators.export(job(tmp_path / "m.joblib"), {"*": CANCER}))
    # The control: all rounds in the graph, and the gate sees it.
    convert = source._convert
    monkeypatch.setattr(
        source,
        "_convert",
        lambda booster, objective, _, width: convert(booster, objective, 0, width),
    )
    with pytest.raises(ParityError):
        check(export(tmp_path, model, CANCER))


@pytest.mark.parametrize(
    ("objective", "rows", "targets"),
    [("rank:pairwise", SUGAR, SUGAR_VALUES // 100), ("multi:softmax", WINE, WINE_LABELS)],
)
def test_without_the_other_objective_the_gate_closes(
    tmp_path, monkeypatch, objective, rows, targets
):
    """The control of WRITTEN_AS: what onnxmltools makes of these by itself."""
    monkeypatch.setattr(source, "WRITTEN_AS", {})
    extra = {"num_class": 3} if objective.startswith("multi") else {}
    exported = export(tmp_path, train(rows, targets, objective=objective, **extra), rows)
    with pytest.raises(ParityError):
        check(exported)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"booster": "dart", "rate_drop": 0.5}, "is a DART.*ignores the weights"),
        ({"booster": "gblinear"}, "is a gblinear, which has no converter"),
        ({"objective": "reg:logistic"}, "objective reg:logistic is not converted rightly"),
        ({"objective": "binary:hinge"}, "objective binary:hinge"),
    ],
)
def test_refused_by_name(tmp_path, params, words):
    booster = train(CANCER, CANCER_LABELS, **params)
    with pytest.raises(UnsupportedModelError, match=words):
        export(tmp_path, booster, CANCER)


def test_several_targets_and_categories_are_refused(tmp_path):
    both = np.stack([SUGAR_VALUES, 2 * SUGAR_VALUES], 1)
    with pytest.raises(UnsupportedModelError, match="several targets"):
        export(tmp_path, train(SUGAR, both), SUGAR)
    table = pd.DataFrame({"a": pd.Categorical(np.array(list("xyz"))[WINE_LABELS])})
    model = xgboost.XGBClassifier(n_estimators=3, enable_categorical=True).fit(table, WINE_LABELS)
    with pytest.raises(UnsupportedModelError, match="splits on categories"):
        export(tmp_path, model, WINE[:, :1])


def test_a_forgotten_weight_does_not_pass_the_gate(tmp_path, monkeypatch):
    """DART with the refusal off: trees as onnxmltools would sum them, all weights 1."""
    booster = train(SUGAR, SUGAR_VALUES, booster="dart", rate_drop=0.5)
    plain = json.loads(bytes(booster.save_raw("json")))
    learner = plain["learner"]
    learner["gradient_booster"] = {
        "name": "gbtree", "model": learner["gradient_booster"]["gbtree"]["model"]
    }  # fmt: skip
    unweighted = xgboost.Booster(model_file=bytearray(json.dumps(plain).encode()))
    monkeypatch.setattr(source, "refuse_booster", lambda _: "reg:squarederror")
    monkeypatch.setattr(
        source, "_convert", lambda _b, *rest, real=source._convert: real(unweighted, *rest)
    )
    with pytest.raises(ParityError):
        check(export(tmp_path, booster, SUGAR))


def test_pickles_of_boosters_and_estimators(tmp_path):
    booster = train(CANCER, CANCER_LABELS, objective="binary:logistic")
    joblib.dump(booster, tmp_path / "m.joblib")
    check(estimators.export(job(tmp_path / "m.joblib"), {"*": CANCER}))
    model = xgboost.XGBRegressor(n_estimators=5).fit(SUGAR, SUGAR_VALUES)
    joblib.dump(model, tmp_path / "m.joblib")
    exported = estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR})
    np.testing.assert_allclose(
        exported.outputs["prediction"], model.predict(SUGAR.astype("f4")), rtol=1e-6
    )
    check(exported)
    joblib.dump(xgboost.XGBRegressor(), tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match="not fitted"):
        estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR})
    zeros = xgboost.XGBRegressor(n_estimators=2, missing=0.0).fit(SUGAR, SUGAR_VALUES)
    joblib.dump(zeros, tmp_path / "m.joblib")
    with pytest.raises(UnsupportedModelError, match=r"takes 0\.0 for missing"):
        estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR})


BROKEN = (lambda data: data[: len(data) // 2], lambda data: data[:20], lambda _: b"")


@pytest.mark.parametrize("broken", [*BROKEN, lambda _: b"\x80\x04garbage", lambda d: d[:-1]])
def test_broken_files_end_in_one_sentence(tmp_path, broken):
    path = tmp_path / "m.json"
    train(SUGAR, SUGAR_VALUES).save_model(path)
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(ConversionError, match="could not be read as an XGBoost") as caught:
        source.export(job(path), {"*": SUGAR})
    assert "\n" not in caught.value.message
    assert "/workspace" not in caught.value.message


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_binary_file_takes_only_the_throw_away_process_along(tmp_path, broken):
    """XGBoost 3.2 reads past the end of a cut .ubj: now an error, now SIGSEGV."""
    path = tmp_path / "m.ubj"
    train(SUGAR, SUGAR_VALUES).save_model(path)
    path.write_bytes(broken(path.read_bytes()))
    words = "could not be read as an XGBoost|was ended by SIG[A-Z]+ .*is the file whole"
    with pytest.raises(ConversionError, match=words) as caught:
        run_source(job(path), {"*": SUGAR}, 60)
    assert "\n" not in caught.value.message
