"""LightGBM models through the source itself, against LightGBM's own numbers."""

import re

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.gate.rows import refuse_frozen
from converters.sources import sklearn as estimators
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check

pytestmark = pytest.mark.frameworks
lightgbm = pytest.importorskip("lightgbm")
pytest.importorskip("onnxmltools")
source = pytest.importorskip("converters.sources.lightgbm")

WINE, WINE_LABELS = load_wine(return_X_y=True)
CANCER, CANCER_LABELS = load_breast_cancer(return_X_y=True)
SUGAR, SUGAR_VALUES = load_diabetes(return_X_y=True)
QUIET = {"verbose": -1, "seed": 0, "num_threads": 1}


def train(rows, targets, rounds=10, data=(), **params):
    table = lightgbm.Dataset(rows, targets, **dict(data))
    return lightgbm.train({**QUIET, **params}, table, rounds)


def job(path, columns=()):
    return SourceJob(framework="lightgbm", source=str(path), columns=columns)


def export(tmp_path, booster, rows, columns=()):
    booster.save_model(tmp_path / "m.txt")
    return source.export(job(tmp_path / "m.txt", columns), {"*": rows})


@pytest.mark.parametrize(
    ("objective", "rows", "targets", "outputs"),
    [
        ("binary", CANCER, CANCER_LABELS, ["probabilities", "label"]),
        ("multiclass", WINE, WINE_LABELS, ["probabilities", "label"]),
        ("regression", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("regression_l1", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("huber", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("quantile", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("poisson", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("gamma", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("tweedie", SUGAR, SUGAR_VALUES, ["prediction"]),
        ("lambdarank", SUGAR, SUGAR_VALUES // 100, ["prediction"]),
    ],
)
def test_objectives_give_their_own_numbers(tmp_path, objective, rows, targets, outputs):
    extra = {"num_class": 3} if objective == "multiclass" else {}
    data = {"group": [len(rows)]} if objective == "lambdarank" else {}
    booster = train(rows, targets, 15, data, objective=objective, **extra)
    exported = export(tmp_path, booster, rows)
    assert list(exported.outputs) == outputs
    check(exported)


def test_the_label_is_declared_as_long_as_the_rows(tmp_path, monkeypatch):
    booster = train(CANCER, CANCER_LABELS, objective="binary")
    exported = export(tmp_path, booster, CANCER)
    label = exported.model.graph.output[1]
    assert label.name == "label"
    assert [dim.dim_param for dim in label.type.tensor_type.shape.dim] == ["batch"]
    assert "label-shape" in [entry.trap for entry in exported.remedies]
    # The control: declared of length 1, as onnxmltools leaves it, the gate takes it for frozen.
    monkeypatch.setattr(source, "label_last", lambda *_: None)
    stock = export(tmp_path, booster, CANCER).model.graph.output[0]
    with pytest.raises(UnsupportedModelError, match="frozen at 1"):
        refuse_frozen("output", stock)


@pytest.mark.parametrize("boosting", ["dart", "goss"])
def test_other_boosting_is_right(tmp_path, boosting):
    check(export(tmp_path, train(SUGAR, SUGAR_VALUES, 30, boosting=boosting), SUGAR))


def test_missing_values_and_categories_new_ones_too(tmp_path):
    random = np.random.default_rng(0)
    kinds, sizes = random.integers(0, 40, 600), random.normal(size=600)
    rows = np.column_stack([kinds, sizes]).astype(float)
    booster = train(rows, np.sin(kinds * 7) * 30 + sizes * 3, 30, {"categorical_feature": [0]})
    rows[::5, 0], rows[1::5, 0], rows[2::5, 1], rows[3::7, 0] = 99, np.nan, np.nan, -1
    check(export(tmp_path, booster, rows), atol=1e-4)


def test_many_trees_are_summed_in_parts(tmp_path, monkeypatch):
    """500 trees whose answers nearly cancel: float32 sums drift, parts added in float64 do not."""
    booster = train(SUGAR, SUGAR_VALUES * 10, 500, learning_rate=0.05)

    def worst(exported):
        got = check(exported, rtol=1e-2)["prediction"].reshape(-1)
        return np.abs(got - exported.outputs["prediction"]).max()

    exported = export(tmp_path, booster, SUGAR)
    assert exported.remedies[-1].what == "500 trees are summed 50 at a time, then in float64"
    in_parts = worst(exported)
    monkeypatch.setattr(source, "SPLIT_TREES", 1000)
    assert worst(export(tmp_path, booster, SUGAR)) > 2 * in_parts


def close_rows():
    """Rows that differ by less than float32 can say, so that thresholds fall between its numbers."""
    base = np.float64(np.float32(100.0))
    steps = np.spacing(np.float32(100.0)).astype(np.float64)
    column = base + steps * np.repeat(np.arange(40), 20)
    just_below = np.nextafter(column.astype("f4"), np.float32(0)).astype(float) + steps * 0.9
    rows = np.concatenate([column, just_below])[:, None]
    targets = np.concatenate([np.ones(800), np.zeros(800)]) * np.tile(np.arange(800) % 7, 2)
    return rows, targets


def test_thresholds_are_rounded_down(tmp_path, monkeypatch):
    rows, targets = close_rows()
    booster = train(rows, targets, 30, min_data_in_leaf=1, min_data_in_bin=1, max_bin=1000)
    check(export(tmp_path, booster, rows))
    # The control: rounded to the nearest, as onnxmltools does, rows go the other way.
    monkeypatch.setattr(source, "round_thresholds", lambda text: text)
    with pytest.raises(ParityError):
        check(export(tmp_path, booster, rows))


def test_names_and_classes_of_an_estimator(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = [f"c{index}" for index in range(13)]
    texts = np.array(["barolo", "grignolino", "barbera"])[WINE_LABELS]
    model = lightgbm.LGBMClassifier(n_estimators=5, **QUIET)
    model.fit(pandas.DataFrame(WINE, columns=names), texts)
    joblib.dump(model, tmp_path / "m.joblib")
    exported = estimators.export(
        job(tmp_path / "m.joblib", tuple(names[::-1])), {"*": WINE[:, ::-1]}
    )
    assert exported.labels == ("barbera", "barolo", "grignolino")
    assert exported.columns == tuple(names)
    assert list(exported.outputs) == ["probabilities"]
    own = model.predict_proba(pandas.DataFrame(WINE.astype("f4"), columns=names))
    np.testing.assert_allclose(exported.outputs["probabilities"], own, atol=1e-12)
    check(exported)
    joblib.dump(lightgbm.LGBMRegressor(), tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match="not fitted"):
        estimators.export(job(tmp_path / "m.joblib"), {"*": WINE})


def test_an_estimator_stops_at_its_best_round(tmp_path):
    model = lightgbm.LGBMRegressor(n_estimators=200, learning_rate=0.3, **QUIET)
    stop = lightgbm.early_stopping(3, verbose=False)
    model.fit(
        SUGAR[::2],
        SUGAR_VALUES[::2],
        eval_X=SUGAR[1::2],
        eval_y=SUGAR_VALUES[1::2],
        callbacks=[stop],
    )
    assert model.best_iteration_ < 200
    joblib.dump(model, tmp_path / "m.joblib")
    exported = estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR})
    own = model.predict(SUGAR.astype("f4"))
    np.testing.assert_allclose(exported.outputs["prediction"], own, rtol=1e-12)
    check(exported)


REFUSED = {
    "linear_tree": ({"linear_tree": True}, "linear models"),
    "forest": ({"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}, "random forest"),
    "sqrt": ({"reg_sqrt": True}, "setting sqrt"),
    "zeros": ({"zero_as_missing": True}, "zeros count as missing"),
    "sigmoid": ({"objective": "binary", "sigmoid": 2.0}, "setting sigmoid:2"),
    "each": ({"objective": "multiclassova", "num_class": 3}, '"multiclassova"'),
    "fair": ({"objective": "fair"}, 'objective "fair" is not converted'),
}


def of_kind(params):
    if params.get("objective", "").startswith("multi"):
        return WINE, WINE_LABELS
    if params.get("objective") == "binary":
        return CANCER, CANCER_LABELS
    rows = np.where(np.abs(SUGAR) > 0.02, SUGAR, 0) if "zero_as_missing" in params else SUGAR
    return rows, SUGAR_VALUES


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_and_caught_by_the_gate_otherwise(tmp_path, monkeypatch, name):
    params, words = REFUSED[name]
    rows, targets = of_kind(params)
    booster = train(rows, targets, **params)
    with pytest.raises(UnsupportedModelError, match=words):
        export(tmp_path, booster, rows)
    # The control: with the refusal off the converter refuses too, or the gate sees the numbers.
    monkeypatch.setattr(
        source, "refuse_text", lambda text: re.search(r"^objective=(\w+)", text, re.MULTILINE)[1]
    )
    if params.get("objective", "").startswith("multi"):
        monkeypatch.setattr(source, "MANY_CLASSES", {"multiclassova"})
    with pytest.raises((ParityError, UnsupportedModelError)):
        check(export(tmp_path, booster, rows))


def test_a_file_that_is_not_whole_never_reaches_lightgbm(tmp_path, monkeypatch):
    """LightGBM 4.7 reads beyond the end of a short text and takes the process down."""
    path = tmp_path / "m.txt"
    train(SUGAR, SUGAR_VALUES).save_model(path)
    whole = path.read_bytes()
    monkeypatch.setattr(source, "_load", lambda _text: pytest.fail("it was loaded"))
    end = whole.index(b"end of trees")
    middle = whole.index(b"Tree=5")
    broken = [
        whole[:3000],
        whole[:end],
        whole[:middle] + whole[end:],
        b"tree\nversion=v4\n",
        b"hello",
    ]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(ConversionError, match=r"cut short|is not a LightGBM model"):
            source.export(job(path), {"*": SUGAR})


def test_without_samples_rows_are_made(tmp_path):
    train(SUGAR * 10, SUGAR_VALUES).save_model(tmp_path / "m.txt")
    made = msgspec.structs.replace(job(tmp_path / "m.txt"), generate=20)
    exported = source.export(made, {})
    assert exported.inputs["features"].shape == (20, 10)
    check(exported)
