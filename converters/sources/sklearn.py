"""scikit-learn estimators and pipelines saved with joblib, pickle or skops.

Opening the file runs whatever it says: only ever inside the throw-away process. Converts with
skl2onnx, with the options that keep numbers right: no ZipMap, division in StandardScaler, float32
inputs. Known wrong conversions are refused by name before they cost minutes.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import onnx
import skl2onnx
import sklearn
from sklearn.base import (
    BaseEstimator,
    is_classifier,
    is_clusterer,
    is_outlier_detector,
    is_regressor,
)

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import DEFAULT_OPSET, Exported, SourceJob
from converters.sources.estimator_file import open_estimator
from converters.sources.steps import booster_source, refuse_steps, to_onnx
from converters.sources.table import input_name, read_table
from edged.tensors import Array

BOOSTERS = {"xgboost", "lightgbm", "catboost"}
"""Packages whose models, when they are not a step of a pipeline, have a source of their own."""


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Open, convert and call a scikit-learn estimator.

    Raises:
        UnsupportedModelError: a step that cannot be converted; names its place and what to do.
        ConversionError: not an estimator, not fitted, or samples that do not fit.
    """
    model, notes = _open(job.source)
    family = type(model).__module__.partition(".")[0]
    if family in BOOSTERS:
        exported: Exported = booster_source(family).export_model(model, notes, job, samples)
        return exported
    refuse_steps(model)
    table = _table(model, samples, job)
    names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
    try:
        reference, outputs, labels = _call_model(model, table, names)
    except ConversionError as exc:
        if samples or isinstance(exc, UnsupportedModelError):
            raise
        raise ConversionError(f"{exc.message}; these are made rows: bring --samples") from exc
    onnx_model, remedies = to_onnx(model, table.shape[1], job.opset or DEFAULT_OPSET)
    if "label" in outputs and labels and outputs["label"].dtype.kind not in "iu":
        _drop_output(onnx_model, "label")
        del outputs["label"]
    _reorder(onnx_model, "label" in outputs)
    return Exported(
        model=onnx_model,
        inputs={input_name(samples): table},
        outputs=outputs,
        framework={"scikit-learn": sklearn.__version__, "skl2onnx": skl2onnx.__version__},
        reference=reference,
        labels=labels,
        label_of={"label": next(iter(outputs))} if is_classifier(model) else {},
        columns=names,
        warnings=notes,
        remedies=remedies,
        call=lambda rows: {
            name: array
            for name, array in _call_model(model, next(iter(rows.values())), names)[1].items()
            if name in outputs
        },
    )


def _open(path: str) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = open_estimator(path)
        except ConversionError:
            raise
        except Exception as exc:
            raise ConversionError(
                "the file could not be opened as joblib, pickle or skops: "
                f"{type(exc).__name__}: {exc}; was it saved with the same scikit-learn, and are "
                "its own classes importable from where edged-convert runs?"
            ) from exc
    is_booster = type(model).__module__.partition(".")[0] in BOOSTERS
    if not is_booster and not isinstance(model, BaseEstimator):
        raise UnsupportedModelError(
            f"the file holds a {type(model).__name__}, not a scikit-learn estimator; "
            "save the fitted estimator or pipeline itself"
        )
    notes = sorted({str(entry.message).split("\n", 1)[0] for entry in caught})
    best = getattr(model, "best_estimator_", None)
    return (model if best is None else best), notes


def _table(model: Any, samples: dict[str, Array], job: SourceJob) -> Array:
    """The samples as float32[rows, features], columns chosen by the model's names if they have."""
    wanted = getattr(model, "n_features_in_", None)
    if wanted is None:
        raise ConversionError("the estimator is not fitted: fit it before saving it")
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    owner = "a scikit-learn model"
    return read_table(samples, job.columns, names, wanted, owner, generated=job.generate)


def _call_model(
    model: Any, table: Array, names: tuple[str, ...]
) -> tuple[str, dict[str, Array], tuple[str, ...]]:
    """The framework's own outputs for the very float32 values that a device will get."""
    try:
        return _reference(model, table, names)
    except UnsupportedModelError:
        raise
    except ValueError:
        pass  # some estimators fitted on float64 take nothing else (KMeans: buffer mismatch)
    try:
        return _reference(model, table.astype(np.float64), names)
    except ValueError as exc:
        raise ConversionError(f"the model itself fails on the samples: {exc}") from exc


def _reference(
    model: Any, table: Array, names: tuple[str, ...]
) -> tuple[str, dict[str, Array], tuple[str, ...]]:
    """The framework's own outputs, best name first, and the class labels."""
    rows = _with_names(table, names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if is_classifier(model):
            return _classifier_reference(model, rows)
        if is_outlier_detector(model):
            outputs = {"scores": model.decision_function(rows), "label": model.predict(rows)}
            return "decision_function, predict", outputs, ()
        if is_clusterer(model):
            if not hasattr(model, "predict"):
                raise UnsupportedModelError(
                    f"{type(model).__name__} cannot say the cluster of a new row; use KMeans"
                )
            outputs = {"distances": model.transform(rows), "label": model.predict(rows)}
            return "transform, predict", outputs, ()
        if is_regressor(model):
            return "predict", {"prediction": model.predict(rows)}, ()
        return "transform", {"transformed": np.asarray(model.transform(rows))}, ()


def _classifier_reference(model: Any, rows: Any) -> tuple[str, dict[str, Array], tuple[str, ...]]:
    label = np.asarray(model.predict(rows))
    classes = model.classes_
    if label.ndim != 1 or isinstance(classes, list):
        raise UnsupportedModelError(
            f"{type(model).__name__} answers several targets at once; convert one model a target"
        )
    labels = tuple(str(entry) for entry in classes)
    if hasattr(model, "predict_proba"):
        scores = {"probabilities": model.predict_proba(rows)}
        return "predict_proba, predict", {**scores, "label": label}, labels
    if not hasattr(model, "decision_function"):
        raise UnsupportedModelError(
            f"{type(model).__name__} gives neither probabilities nor scores (hard voting?); choose "
            "an estimator or setting with predict_proba, e.g. voting='soft'"
        )
    decision = model.decision_function(rows)
    if decision.ndim == 1:  # one score a row for two classes; the graph gives both
        decision = np.column_stack([-decision, decision])
    return "decision_function, predict", {"scores": decision, "label": label}, labels


def _with_names(table: Array, names: tuple[str, ...]) -> Any:
    """A pandas table where the model was fitted on one, so that columns chosen by name work."""
    if not names:
        return table
    try:
        pandas: Any = importlib.import_module("pandas")  # only where the model's author had it
    except ImportError:
        return table
    return pandas.DataFrame(table, columns=list(names))


def _drop_output(model: onnx.ModelProto, name: str) -> None:
    for index, output in enumerate(model.graph.output):
        if output.name in {name, f"output_{name}"}:
            del model.graph.output[index]
            return


def _reorder(model: onnx.ModelProto, has_label: bool) -> None:
    """Put the label last: the first output is the one a binding shows."""
    if has_label and len(model.graph.output) == 2:
        label = model.graph.output[0]
        copied = onnx.ValueInfoProto()
        copied.CopyFrom(label)
        del model.graph.output[0]
        model.graph.output.append(copied)
