"""Steps of pipelines: each trap of skl2onnx, with its remedy, and shut by the gate without it."""

import joblib
import numpy as np
import pytest
import skl2onnx
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.svm import OneClassSVM

from converters import graph
from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.sources import sklearn as source
from converters.sources import steps
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check

WINE, WINE_LABELS = load_wine(return_X_y=True)
CANCER, CANCER_LABELS = load_breast_cancer(return_X_y=True)
SUGAR, SUGAR_VALUES = load_diabetes(return_X_y=True)


def export(tmp_path, model, rows, **fields):
    joblib.dump(model, tmp_path / "m.joblib")
    job = SourceJob(framework="sklearn", source=str(tmp_path / "m.joblib"), **fields)
    return source.export(job, {"*": rows})


def scaled(*steps):
    return make_pipeline(StandardScaler(), *steps)


@pytest.mark.parametrize(
    ("model", "rows", "targets"),
    [
        (GradientBoostingClassifier(n_estimators=10), WINE, WINE_LABELS),
        (GradientBoostingRegressor(n_estimators=30), SUGAR, SUGAR_VALUES),
        (ExtraTreesClassifier(10, random_state=0), WINE, WINE_LABELS),
        (
            scaled(MLPClassifier((8,), solver="lbfgs", max_iter=2000, random_state=0)),
            WINE,
            WINE_LABELS,
        ),
        (scaled(KNeighborsClassifier()), WINE, WINE_LABELS),
        (
            StackingClassifier(
                [("a", scaled(LogisticRegression())), ("b", ExtraTreesClassifier(5))], cv=2
            ),
            WINE,
            WINE_LABELS,
        ),
        (CalibratedClassifierCV(RandomForestClassifier(5), cv=2), WINE, WINE_LABELS),
        (scaled(OneClassSVM()), WINE, None),
        (scaled(LocalOutlierFactor(novelty=True)), WINE, None),
        (GaussianProcessRegressor(alpha=0.1, optimizer=None), SUGAR[:80], SUGAR_VALUES[:80]),
        (IsolationForest(n_estimators=10, random_state=0), WINE, None),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_the_converters_that_are_right(tmp_path, model, rows, targets):
    exported = export(tmp_path, model.fit(rows, targets), rows)
    check(exported)
    # Nothing asks for more than ai.onnx.ml 3, which IsolationForest needs.
    assert all(e.version <= 3 for e in exported.model.opset_import if e.domain == "ai.onnx.ml")


def test_what_needs_an_operator_of_one_runtime_is_refused(tmp_path):
    model = scaled(GaussianProcessClassifier()).fit(CANCER[:60], CANCER_LABELS[:60])
    exported = export(tmp_path, model, CANCER[:60])
    with pytest.raises(UnsupportedModelError, match=r"com\.microsoft:Solve"):
        check(exported)


def test_operator_sets_that_stand_twice_become_one(tmp_path):
    model = GradientBoostingRegressor(n_estimators=3).fit(SUGAR, SUGAR_VALUES)
    exported = export(tmp_path, model, SUGAR)
    assert [e.domain for e in exported.model.opset_import].count("") == 2
    cleaned = graph.clean(exported.model, 18)
    assert sorted((e.domain, e.version) for e in cleaned.opset_import) == [
        ("", 18), ("ai.onnx.ml", 1)
    ]  # fmt: skip


def test_an_opset_is_written_as_asked(tmp_path):
    model = scaled(LogisticRegression()).fit(WINE, WINE_LABELS)
    exported = export(tmp_path, model, WINE, opset=15)
    assert graph.opset_of(graph.clean(exported.model, 15)) == 15


def test_dictionaries_of_probabilities_are_off_and_refused_when_on(tmp_path, monkeypatch):
    model = scaled(LogisticRegression()).fit(WINE, WINE_LABELS)
    check(export(tmp_path, model, WINE))
    monkeypatch.setattr(steps, "_allowed_options", lambda _step: set())
    with pytest.raises(UnsupportedModelError, match="is a sequence, not a tensor"):
        check(export(tmp_path, model, WINE))


def scaler_before_trees():
    """Trees whose thresholds are scaled rows themselves, as XGBoost's histogram takes them."""
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    model = scaled(xgboost.XGBClassifier(n_estimators=50, random_state=0))
    return model.fit(CANCER.astype("f4"), CANCER_LABELS)


@pytest.mark.frameworks
def test_a_scaler_before_trees_divides(tmp_path, monkeypatch):
    model = scaler_before_trees()
    exported = export(tmp_path, model, CANCER)
    assert exported.remedies[0].trap == "scaler-division"
    assert exported.remedies[0].where == "standardscaler"
    check(exported)
    # The control: the stock product with the reciprocal sends rows to the other side of trees.
    monkeypatch.setattr(steps, "SCALER_OPTIONS", {})
    with pytest.raises(ParityError):
        check(export(tmp_path, model, CANCER))


@pytest.mark.frameworks
def test_boosters_as_a_step(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("onnxmltools")
    quiet = {"n_estimators": 60, "verbose": -1, "num_threads": 1}
    for model, rows, targets in (
        (xgboost.XGBClassifier(n_estimators=10), WINE, WINE_LABELS),
        (xgboost.XGBRegressor(n_estimators=10), SUGAR, SUGAR_VALUES),
        (lightgbm.LGBMClassifier(**quiet), WINE, WINE_LABELS),
        (lightgbm.LGBMRegressor(**quiet), SUGAR, SUGAR_VALUES),
    ):
        check(export(tmp_path, scaled(model).fit(rows, targets), rows))
    stacked = StackingClassifier(
        [("x", xgboost.XGBClassifier(n_estimators=5)), ("l", lightgbm.LGBMClassifier(**quiet))],
        cv=2,
    ).fit(WINE, WINE_LABELS)
    exported = export(tmp_path, stacked, WINE)
    assert {"l"} == {e.where for e in exported.remedies if e.trap == "tree-thresholds"}
    check(exported)


@pytest.mark.frameworks
def test_boosters_as_a_step_are_refused_as_they_are_alone(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    catboost = pytest.importorskip("catboost")
    pytest.importorskip("onnxmltools")
    dart = scaled(xgboost.XGBClassifier(n_estimators=3, booster="dart"))
    with pytest.raises(UnsupportedModelError, match='step "xgbclassifier": the booster is a DART'):
        export(tmp_path, dart.fit(CANCER, CANCER_LABELS), CANCER)
    linear = scaled(lightgbm.LGBMRegressor(n_estimators=3, linear_tree=True, verbose=-1))
    with pytest.raises(UnsupportedModelError, match='step "lgbmregressor": the leaves'):
        export(tmp_path, linear.fit(SUGAR, SUGAR_VALUES), SUGAR)
    ranker = xgboost.XGBRanker(n_estimators=2)
    with pytest.raises(UnsupportedModelError, match="save any other by itself"):
        steps.refuse_steps(scaled(ranker))
    cat = scaled(catboost.CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False))
    with pytest.raises(UnsupportedModelError, match=r"as \.cbm"):
        export(tmp_path, cat.fit(WINE, WINE_LABELS), WINE)


def test_without_the_boosters_converter_it_says_what_to_install(monkeypatch):
    def missing(_name):
        raise ImportError(name="onnxmltools")

    monkeypatch.setattr(steps.importlib, "import_module", missing)
    with pytest.raises(ConversionError, match=r"needs onnxmltools.*edged\[convert-boost\]"):
        steps.booster_source("xgboost")


def test_histogram_boosting_needs_an_older_protobuf(tmp_path, monkeypatch):
    model = HistGradientBoostingClassifier(max_iter=2).fit(WINE, WINE_LABELS)
    monkeypatch.setattr(steps.google.protobuf, "__version__", "7.34.1")
    with pytest.raises(UnsupportedModelError, match=r"with protobuf 7\.34\.1: pip install"):
        export(tmp_path, model, WINE)


def test_a_target_encoder_is_refused_and_the_gate_would_see_it(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    kinds = np.round(random.normal(size=(300, 1)), 1)  # 0.1, 0.2, … are cut to whole numbers
    targets = (kinds[:, 0] > 0.3).astype(int)
    model = TargetEncoder(random_state=0).fit(kinds, targets)
    with pytest.raises(UnsupportedModelError, match="TargetEncoder: its conversion gives wrong"):
        export(tmp_path, model, kinds)
    monkeypatch.delitem(steps.REFUSED, "TargetEncoder")
    with pytest.raises((ParityError, UnsupportedModelError)):
        check(export(tmp_path, model, kinds))


def test_a_quantile_transformer_is_refused_before_it_costs_minutes(tmp_path, monkeypatch):
    from sklearn.preprocessing import QuantileTransformer

    model = QuantileTransformer(n_quantiles=50).fit(WINE)
    monkeypatch.setattr(skl2onnx, "to_onnx", lambda *_, **__: pytest.fail("it was started"))
    with pytest.raises(UnsupportedModelError, match=r"off by 0\.003 and takes minutes"):
        export(tmp_path, model, WINE)


@pytest.mark.slow  # two seconds of it are skl2onnx's own
def test_without_the_refusal_the_gate_sees_a_quantile_transformer(tmp_path, monkeypatch):
    from sklearn.preprocessing import QuantileTransformer

    model = QuantileTransformer(n_quantiles=40).fit(WINE[:40, :1])
    monkeypatch.delitem(steps.REFUSED, "QuantileTransformer")
    exported = export(tmp_path, model, WINE[:40, :1])
    with pytest.raises(ParityError, match="of 40 rows"):
        check(exported)


def test_tf_idf_is_refused_and_the_gate_shuts_on_what_skl2onnx_makes_of_it():
    """Both of its traps with the stock converter: the locale, and words beyond ASCII."""
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import TfidfVectorizer

    from converters.gate.operators import refuse_operators
    from converters.session import open_session

    texts = np.array(["süß rot", "sauer weiß", "süß weiß", "rot"])
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [0, 1, 0, 1])
    with pytest.raises(UnsupportedModelError, match="text inputs are not carried"):
        steps.refuse_steps(model)

    def convert(**of_words):
        options = {id(model): {"zipmap": False}, TfidfVectorizer: of_words}
        types = [("x", StringTensorType([None, 1]))]
        target = {"": 18, "ai.onnx.ml": 3}
        return skl2onnx.to_onnx(model, initial_types=types, options=options, target_opset=target)

    stock = convert()
    with pytest.raises(UnsupportedModelError, match='the locale "en_US"'):
        refuse_operators(stock)
    # The locale C loads everywhere, and cuts words at an umlaut: that is why no remedy is one.
    run = open_session(convert(locale="C").SerializeToString())
    got = run({"x": texts[:, None]})["probabilities"]
    assert np.abs(got - model.predict_proba(texts)).max() > 0.05


def test_fitted_steps_are_walked_wherever_they_hide(tmp_path):
    inner = HistGradientBoostingClassifier(max_iter=3, random_state=0)
    stacked = StackingClassifier([("h", inner), ("l", scaled(LogisticRegression()))], cv=2)
    exported = export(tmp_path, stacked.fit(CANCER, CANCER_LABELS), CANCER)
    places = {(entry.trap, entry.where) for entry in exported.remedies}
    assert ("tree-thresholds", "h") in places
    assert ("scaler-division", "l.standardscaler") in places
    check(exported)


def test_numbers_in_place_of_words_give_the_same_answers(tmp_path):
    """A model of words wants words as samples; one of the words' numbers converts as ever."""
    pandas = pytest.importorskip("pandas")
    names = np.array(["red", "green", "blue"], dtype=object)
    texts = names[WINE_LABELS % 3]
    texts[::10] = "green"
    table = pandas.DataFrame({"colour": texts, "hue": WINE[:, 10]})

    def fitted(rows):
        encode = make_pipeline(
            SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
        )
        columns = ColumnTransformer(
            [("text", encode, ["colour"]), ("number", StandardScaler(), ["hue"])]
        )
        return make_pipeline(columns, LogisticRegression()).fit(rows, WINE_LABELS)

    by_text = fitted(table)
    with pytest.raises(ConversionError, match="column 0: the model takes words there"):
        export(tmp_path, by_text, WINE[:, :2])
    # The same pipeline over each text's number.
    coded = table.assign(colour=[sorted(names).index(text) for text in texts])
    by_number = fitted(coded)
    rows = coded.to_numpy().astype(float)
    rows[5, 0], rows[7, 0] = 99, np.nan  # a new category, and none
    exported = export(tmp_path, by_number, rows, columns=("colour", "hue"))
    check(exported)
    np.testing.assert_allclose(
        by_number.predict_proba(coded), by_text.predict_proba(table), atol=1e-12
    )


def test_float64_inputs_would_not_load(tmp_path, monkeypatch):
    """The control of float32 inputs: trees on float64 columns, as a table's own types would be."""
    from skl2onnx.common.data_types import DoubleTensorType

    model = RandomForestClassifier(3, random_state=0).fit(WINE, WINE_LABELS)
    check(export(tmp_path, model, WINE))
    monkeypatch.setattr(steps, "FloatTensorType", DoubleTensorType)
    with pytest.raises(ConversionError):
        check(export(tmp_path, model, WINE))


def test_an_isolation_forest_needs_its_operator_set(tmp_path, monkeypatch):
    model = IsolationForest(n_estimators=5, random_state=0).fit(WINE)
    check(export(tmp_path, model, WINE))
    monkeypatch.setattr(steps, "ML_OPSET", 1)
    with pytest.raises(UnsupportedModelError, match="cannot convert this IsolationForest"):
        export(tmp_path, model, WINE)
