"""CatBoost models through the source itself, against CatBoost's own numbers."""

import joblib
import msgspec
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from converters.errors import ConversionError, ParityError, UnsupportedModelError
from converters.sources import sklearn as estimators
from converters.sources.base import SourceJob
from tests.converters.sources.gate import check

pytestmark = pytest.mark.frameworks
catboost = pytest.importorskip("catboost")
source = pytest.importorskip("converters.sources.catboost")

WINE, WINE_LABELS = load_wine(return_X_y=True)
CANCER, CANCER_LABELS = load_breast_cancer(return_X_y=True)
SUGAR, SUGAR_VALUES = load_diabetes(return_X_y=True)
QUIET = {
    "iterations": 15, "verbose": 0, "allow_writing_files": False, "random_seed": 0, "thread_count": 1
}  # fmt: skip


def classifier(**params):
    return catboost.CatBoostClassifier(**{**QUIET, **params})


def regressor(**params):
    return catboost.CatBoostRegressor(**{**QUIET, **params})


def job(path, columns=()):
    return SourceJob(framework="catboost", source=str(path), columns=columns)


def export(tmp_path, model, rows, columns=()):
    model.save_model(str(tmp_path / "m.cbm"))
    return source.export(job(tmp_path / "m.cbm", columns), {"*": rows})


@pytest.mark.parametrize(
    ("loss", "rows", "targets", "outputs"),
    [
        ("Logloss", CANCER, CANCER_LABELS, ["probabilities", "label"]),
        ("CrossEntropy", CANCER, CANCER_LABELS, ["probabilities", "label"]),
        ("MultiClass", WINE, WINE_LABELS + 3, ["probabilities", "label"]),
        ("MultiClassOneVsAll", WINE, WINE_LABELS, ["probabilities", "label"]),
        ("MultiClass", WINE, np.array(["x", "y", "z"])[WINE_LABELS], ["probabilities"]),
    ],
)
def test_classes_give_their_own_numbers(tmp_path, loss, rows, targets, outputs):
    model = classifier(loss_function=loss).fit(rows, targets)
    exported = export(tmp_path, model, rows)
    assert list(exported.outputs) == outputs
    assert exported.labels == tuple(str(entry) for entry in np.unique(targets))
    own = model.predict_proba(rows.astype("f4"))
    np.testing.assert_allclose(exported.outputs["probabilities"], own, atol=1e-12)
    assert exported.remedies[0].trap == "zipmap"
    check(exported)


@pytest.mark.parametrize(
    "loss", ["RMSE", "MAE", "Quantile:alpha=0.3", "Huber:delta=2", "Poisson", "Tweedie:variance_power=1.5"]
)  # fmt: skip
def test_values_give_their_own_numbers(tmp_path, loss):
    model = regressor(loss_function=loss).fit(SUGAR, SUGAR_VALUES)
    exported = export(tmp_path, model, SUGAR)
    own = model.predict(SUGAR.astype("f4"))
    if not loss.startswith("Tweedie"):  # CatBoost's own predict() forgets Tweedie's exponent
        np.testing.assert_allclose(exported.outputs["prediction"], own, rtol=1e-12)
    check(exported)


@pytest.mark.parametrize(
    ("loss", "model", "rows", "targets"),
    [
        ("Poisson", regressor, SUGAR, SUGAR_VALUES),
        ("MultiClassOneVsAll", classifier, WINE, WINE_LABELS),
    ],
)
def test_without_the_repair_the_gate_closes(tmp_path, monkeypatch, loss, model, rows, targets):
    trained = model(loss_function=loss).fit(rows, targets)
    monkeypatch.setattr(source, "append_operator", lambda *_: None)
    monkeypatch.setattr(source, "set_post_transform", lambda *_: None)
    exported = export(tmp_path, trained, rows)
    with pytest.raises(ParityError):
        check(exported)


def test_a_zipmap_left_in_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "cut_zipmap", lambda *_: None)
    exported = export(tmp_path, classifier().fit(WINE, WINE_LABELS), WINE)
    with pytest.raises(UnsupportedModelError, match="is a sequence, not a tensor"):
        check(exported)


@pytest.mark.parametrize("mode", ["Min", "Max"])
def test_missing_values_go_where_they_were_taught(tmp_path, mode):
    rows = CANCER.copy()
    rows[::3, ::2] = np.nan
    check(export(tmp_path, classifier(nan_mode=mode).fit(rows, CANCER_LABELS), rows))


def test_columns_are_chosen_by_name(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = [f"c{index}" for index in range(13)]
    model = classifier().fit(pandas.DataFrame(WINE, columns=names), WINE_LABELS)
    exported = export(tmp_path, model, WINE[:, ::-1], tuple(names[::-1]))
    assert exported.columns == tuple(names)
    check(exported)


def test_refused_by_name(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"grape": np.array(list("xyz"))[WINE_LABELS], "hue": WINE[:, 0]})
    model = classifier().fit(table, WINE_LABELS, cat_features=["grape"])
    with pytest.raises(UnsupportedModelError, match=r'categorical columns \("grape"\)'):
        export(tmp_path, model, WINE[:, :2])
    table["grape"] = np.array(["red wine", "white one", "blue sky"])[WINE_LABELS]
    model = classifier().fit(table, WINE_LABELS, text_features=["grape"])
    with pytest.raises(UnsupportedModelError, match=r'text columns \("grape"\)'):
        export(tmp_path, model, WINE[:, :2])
    both = np.stack([SUGAR_VALUES, SUGAR_VALUES], 1)
    with pytest.raises(UnsupportedModelError, match='"MultiRMSE" is not exported'):
        export(tmp_path, regressor(loss_function="MultiRMSE").fit(SUGAR, both), SUGAR)
    with pytest.raises(UnsupportedModelError, match="SymmetricTree"):
        export(tmp_path, regressor(grow_policy="Lossguide").fit(SUGAR, SUGAR_VALUES), SUGAR)


def test_pickles_and_broken_files(tmp_path):
    model = regressor().fit(SUGAR, SUGAR_VALUES)
    joblib.dump(model, tmp_path / "m.joblib")
    check(estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR}))
    joblib.dump(regressor(), tmp_path / "m.joblib")
    with pytest.raises(ConversionError, match="not fitted"):
        estimators.export(job(tmp_path / "m.joblib"), {"*": SUGAR})
    path = tmp_path / "m.cbm"
    model.save_model(str(path))
    data = path.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"hello", b"\x80\x04garbage", data[:4]):
        path.write_bytes(broken)
        with pytest.raises(ConversionError, match="could not be read as a CatBoost") as caught:
            source.export(job(path), {"*": SUGAR})
        assert "\n" not in caught.value.message


def test_without_samples_rows_are_made(tmp_path):
    regressor().fit(SUGAR * 10, SUGAR_VALUES).save_model(str(tmp_path / "m.cbm"))
    made = msgspec.structs.replace(job(tmp_path / "m.cbm"), generate=20)
    exported = source.export(made, {})
    assert exported.inputs["features"].shape == (20, 10)
    check(exported)
