"""scikit-learn estimators and pipelines saved with joblib, pickle or skops.

Opening the file runs whatever it says: only ever inside the throw-away process. Converts with
skl2onnx, with the options that keep numbers right: no ZipMap, division in StandardScaler, float32
inputs. Known wrong conversions are refused by name before they cost minutes.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from converters.sources.spelling import (
    make_word_edges,
    mark_missing,
    number_samples,
    settle_missing,
    spell_samples,
    spell_table,
)
from converters.sources.steps import booster_source, refuse_steps, takes_texts, to_onnx
from converters.sources.table import input_name, read_table
from converters.sources.words import WordInput, let_be, part_words
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
        return _export_booster(family, model, notes, job, samples)
    parted = part_words(model, takes_texts(model))
    refuse_steps(parted.model)
    names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
    columns = names if names and set(names) <= set(job.columns) else job.columns
    inputs = {**parted.inputs, **let_be(model, columns, job.words)}
    framework = _Framework(model, names, inputs)
    table = _table(model, samples, job)
    spelled = None
    if inputs or job.words:
        spelled = spell_samples(table, columns, job.words, inputs)
        inputs = settle_missing(inputs, spelled, lambda rows: framework.answer(rows)[1])
    try:
        rows = table if spelled is None else mark_missing(spelled, inputs)
        reference, outputs, labels = framework.answer(rows)
    except ConversionError as exc:
        if samples or isinstance(exc, UnsupportedModelError):
            raise
        raise ConversionError(f"{exc.message}; these are made rows: bring --samples") from exc
    if spelled is not None:
        table = number_samples(spelled, inputs)
    onnx_model, remedies = to_onnx(parted.model, table.shape[1], job.opset or DEFAULT_OPSET)
    if "label" in outputs and labels and outputs["label"].dtype.kind not in "iu":
        _drop_output(onnx_model, "label")
        del outputs["label"]
    _reorder(onnx_model, "label" in outputs)
    name = input_name(samples)
    framework = replace(framework, inputs=inputs)
    return Exported(
        model=onnx_model,
        inputs={name: table},
        outputs=outputs,
        framework={"scikit-learn": sklearn.__version__, "skl2onnx": skl2onnx.__version__},
        reference=reference,
        labels=labels,
        label_of={"label": next(iter(outputs))} if is_classifier(model) else {},
        columns=names,
        words={at: one.column for at, one in inputs.items()},
        made_edges={edge: {name: row} for edge, row in make_word_edges(table, inputs).items()},
        warnings=notes,
        remedies=remedies,
        call=lambda rows: {
            key: array
            for key, array in framework.answer_numbers(next(iter(rows.values()))).items()
            if key in outputs
        },
    )


def _export_booster(
    family: str, model: Any, notes: list[str], job: SourceJob, samples: dict[str, Array]
) -> Exported:
    if job.words:
        raise ConversionError(
            f'samples, column "{next(iter(job.words))}": holds words; a {family} model takes '
            "numbers only: encode them before the model"
        )
    exported: Exported = booster_source(family).export_model(model, notes, job, samples)
    return exported


@dataclass(frozen=True)
class _Framework:
    """The estimator, asked as its author asks it.

    Args:
        model: as it came.
        names: of its columns; none where it was fitted on a bare array.
        inputs: its columns of words.
    """

    model: Any
    names: tuple[str, ...]
    inputs: Mapping[int, WordInput]

    def answer(self, rows: Array) -> tuple[str, dict[str, Array], tuple[str, ...]]:
        """Its own outputs for the very float32 values, and words, that a device will get."""
        try:
            return _reference(self.model, self._own(rows, np.float32))
        except UnsupportedModelError:
            raise
        except ValueError:
            pass  # some estimators fitted on float64 take nothing else (KMeans: buffer mismatch)
        try:
            return _reference(self.model, self._own(rows, np.float64))
        except ValueError as exc:
            raise ConversionError(f"the model itself fails on the samples: {exc}") from exc

    def answer_numbers(self, table: Array) -> dict[str, Array]:
        """The same for rows in which words are numbers, as a device gives them to the bundle."""
        return self.answer(spell_table(table, self.inputs) if self.inputs else table)[1]

    def _own(self, rows: Array, dtype: type) -> Any:
        if not self.inputs:
            return _with_names(rows.astype(dtype), self.names)
        if not self.names:
            return rows
        try:
            pandas: Any = importlib.import_module("pandas")
        except ImportError as exc:
            raise ConversionError(
                "the model was fitted on a table with words and named columns, which needs pandas: "
                "pip install pandas"
            ) from exc
        columns = {
            name: rows[:, at] if at in self.inputs else rows[:, at].astype(np.float32).astype(dtype)
            for at, name in enumerate(self.names)
        }
        return pandas.DataFrame(
            {name: pandas.Series(array, dtype=array.dtype) for name, array in columns.items()}
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


def _reference(model: Any, rows: Any) -> tuple[str, dict[str, Array], tuple[str, ...]]:
    """The framework's own outputs, best name first, and the class labels."""
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
