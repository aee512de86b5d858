"""Each kind of estimator through the source itself, against its own numbers."""

import warnings

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.sources import sklearn as source
from converters.sources import steps
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check

WINE, WINE_LABELS = load_wine(return_X_y=True)
CANCER, CANCER_LABELS = load_breast_cancer(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


def export(tmp_path, model, rows=WINE, columns=()):
    joblib.dump(model, tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), columns=columns)
    return source.export(job, {"*": rows})


@pytest.mark.parametrize(
    ("model", "outputs"),
    [
        (scaled(LogisticRegression()), ["probabilities", "label"]),
        (RandomForestClassifier(10, random_state=0), ["probabilities", "label"]),
        (scaled(SVC()), ["scores", "label"]),
        (scaled(LinearSVC()), ["scores", "label"]),
        (scaled(RidgeClassifier()), ["scores", "label"]),
        (scaled(Perceptron()), ["scores", "label"]),
        (scaled(KMeans(3, n_init=1, random_state=0)), ["distances", "label"]),
        (scaled(PCA(2)), ["transformed"]),
        (scaled(LinearRegression()), ["prediction"]),
        (RandomForestRegressor(10, random_state=0), ["prediction"]),
        (IsolationForest(n_estimators=10, random_state=0), ["scores", "label"]),
        (
            make_pipeline(
                ColumnTransformer(
                    [
                        ("scale", StandardScaler(), [0, 1, 2]),
                        ("fill", SimpleImputer(), [5]),
                        ("keep", "passthrough", [7]),
                    ]
                ),
                LogisticRegression(max_iter=1000),
            ),
            ["probabilities", "label"],
        ),
        (
            make_pipeline(
                FeatureUnion([("s", StandardScaler()), ("p", scaled(PCA(2)))]),
                LogisticRegression(max_iter=1000),
            ),
            ["probabilities", "label"],
        ),
        (
            GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [1.0, 2.0]}, cv=2),
            ["probabilities", "label"],
        ),
        (
            VotingClassifier(
                [("a", scaled(LogisticRegression())), ("b", RandomForestClassifier(5))],
                voting="soft",
            ),
            ["probabilities", "label"],
        ),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "-".join(value),
)
def test_estimators_give_their_own_numbers(tmp_path, model, outputs):
    exported = export(tmp_path, model.fit(WINE, WINE_LABELS))
    assert list(exported.outputs) == outputs
    assert exported.inputs["features"].dtype == np.float32
    check(exported)


@pytest.mark.parametrize("model", [scaled(SVC()), scaled(LinearSVC()), scaled(RidgeClassifier())])
def test_two_classes_give_two_scores(tmp_path, model):
    exported = export(tmp_path, model.fit(CANCER, CANCER_LABELS), CANCER)
    assert exported.outputs["scores"].shape == (569, 2)
    assert exported.labels == ("0", "1")
    check(exported)


def test_boosted_thresholds_are_rounded_down(tmp_path, monkeypatch):
    model = HistGradientBoostingClassifier(random_state=0).fit(CANCER, CANCER_LABELS)
    check(export(tmp_path, model, CANCER))
    # The control: rounded to the nearest, as the stock converter does, rows go the other way.
    monkeypatch.setattr(steps, "_round_thresholds", lambda step: None)
    with pytest.raises(ParityError):
        check(export(tmp_path, model, CANCER))


def test_voting_is_switched_to_what_has_a_converter(tmp_path, monkeypatch):
    voters = [("a", scaled(LogisticRegression())), ("b", RandomForestClassifier(5))]
    model = VotingClassifier(voters, voting="soft").fit(WINE, WINE_LABELS)
    exported = export(tmp_path, model)
    assert "voting-flatten" in [entry.trap for entry in exported.remedies]
    assert model.flatten_transform
    check(exported)
    # The control: as it is fitted by default, skl2onnx has no way.
    monkeypatch.setattr(steps, "_unflatten", lambda step: None)
    with pytest.raises(UnsupportedModelError, match="cannot convert this VotingClassifier"):
        export(tmp_path, model)


def test_text_classes_become_labels_without_a_text_tensor(tmp_path):
    exported = export(tmp_path, scaled(LogisticRegression()).fit(WINE, NAMES[WINE_LABELS]))
    assert list(exported.outputs) == ["probabilities"]
    assert exported.labels == ("barbera", "barolo", "grignolino")
    check(exported)
    assert len(exported.model.graph.output) == 1


def test_columns_are_chosen_by_the_names_the_model_was_fitted_on(tmp_path):
    model = scaled(LogisticRegression()).fit(WINE[:, :2], WINE_LABELS)
    names = np.array(["ash", "hue"], dtype=object)
    model[0].feature_names_in_ = names
    rows = np.column_stack([WINE[:, 1], WINE[:, 5], WINE[:, 0]])
    exported = export(tmp_path, model, rows, ("hue", "other", "ash"))
    assert exported.columns == ("ash", "hue")
    np.testing.assert_allclose(exported.inputs["features"], WINE[:, :2].astype("f4"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), "FunctionTransformer"),
        (
            make_pipeline(QuantileTransformer(n_quantiles=10), LogisticRegression()),
            'step "quantiletransformer" is a QuantileTransformer',
        ),
        (make_pipeline(KBinsDiscretizer(3), LogisticRegression()), "onehot-dense"),
        (make_pipeline(SplineTransformer(), LogisticRegression()), "is a SplineTransformer"),
        (DBSCAN(), "no converter"),
        (
            VotingClassifier([("a", scaled(LogisticRegression()))]),
            "VotingClassifier gives neither probabilities",
        ),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_what_cannot_be_converted_is_refused_with_its_place(tmp_path, model, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(WINE, WINE_LABELS)
    with pytest.raises(UnsupportedModelError, match=words):
        export(tmp_path, model)


def test_more_refusals(tmp_path):
    many = RandomForestClassifier(3).fit(WINE, np.stack([WINE_LABELS, WINE_LABELS], 1))
    with pytest.raises(UnsupportedModelError, match="several targets"):
        export(tmp_path, many)
    text = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        ["red wine", "white wine"], [0, 1]
    )
    with pytest.raises(UnsupportedModelError, match="text inputs are not carried"):
        export(tmp_path, text)
    with pytest.raises(ConversionError, match="not fitted"):
        export(tmp_path, LogisticRegression())
    with pytest.raises(ConversionError, match="takes 13 columns"):
        export(tmp_path, scaled(LogisticRegression()).fit(WINE, WINE_LABELS), WINE[:, :4])
    joblib.dump({"weights": 1}, tmp_path / "m.joblib")
    with pytest.raises(UnsupportedModelError, match="holds a dict"):
        source.export(SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib")), {})
    (tmp_path / "m.joblib").write_bytes(b"garbage")
    with pytest.raises(ConversionError, match="could not be opened"):
        source.export(SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib")), {})


class Doubler(LinearRegression):
    """An estimator of somebody's own."""


def test_without_samples_rows_are_made_for_the_columns_it_was_fitted_on(tmp_path):
    model = scaled(LogisticRegression()).fit(WINE - WINE.mean(axis=0), WINE_LABELS)
    joblib.dump(model, tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), generate=20)
    exported = source.export(job, {})
    assert exported.inputs["features"].shape == (20, 13)
    check(exported)
    # Rows that were brought are taken as they are, whatever may be made.
    np.testing.assert_array_equal(
        source.export(job, {"*": WINE[:5]}).inputs["features"], WINE[:5].astype("f4")
    )
    with pytest.raises(ConversionError, match="the samples hold 0 arrays"):
        source.export(msgspec.structs.replace(job, generate=0), {})


def test_made_rows_that_a_model_cannot_take_are_called_made(tmp_path):
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(WINE[:, :1] > 13, WINE_LABELS)
    joblib.dump(model, tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), generate=20)
    with pytest.raises(ConversionError, match=r"unknown categories.*made rows: bring --samples"):
        source.export(job, {})


def test_trees_that_no_made_row_splits_prove_nothing(tmp_path):
    model = RandomForestClassifier(5, random_state=0).fit(WINE + 1e4, WINE_LABELS)
    joblib.dump(model, tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), generate=20)
    with pytest.raises(ParityError, match="proves nothing"):
        check(source.export(job, {}))


def test_foreign_estimators_are_named():
    with pytest.raises(UnsupportedModelError, match="Doubler"):
        steps.refuse_steps(scaled(Doubler()))


def test_wrong_conversions_do_not_pass_the_gate(tmp_path):
    """skl2onnx takes the wrong method of a pipeline inside CalibratedClassifierCV."""
    model = CalibratedClassifierCV(scaled(LogisticRegression())).fit(WINE, WINE_LABELS)
    with pytest.raises(ParityError, match="178 of 178 rows"):
        check(export(tmp_path, model))


def test_column_transformers_by_name_take_one_table(tmp_path):
    names = list(load_wine().feature_names)
    table = pd.DataFrame(WINE, columns=names)
    model = make_pipeline(
        ColumnTransformer(
            [("scale", StandardScaler(), ["hue", "alcohol"])], remainder="passthrough"
        ),
        LogisticRegression(max_iter=5000),
    ).fit(table, WINE_LABELS)
    shuffled = names[::-1]
    exported = export(tmp_path, model, table[shuffled].to_numpy(), tuple(shuffled))
    assert exported.columns == tuple(names)
    np.testing.assert_allclose(exported.inputs["features"], WINE.astype("f4"))
    check(exported)
