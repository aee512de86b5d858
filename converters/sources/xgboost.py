"""XGBoost: model files (.json, .ubj), which are data, and boosters or estimators out of a pickle.

Converts with onnxmltools. What that converter gets wrong without a word (an objective that it takes
for another, several targets, the rounds after the best one) is put right on a copy, or refused by
name before it is asked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxmltools
import skl2onnx
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import Exported, Remedy, SourceJob
from converters.sources.table import FEATURES, input_name, read_table
from converters.sources.trees import CONVERTER_OPSET, label_last, to_opset
from edged.errors import first_line
from edged.tensors import Array

TWO_CLASSES = {"binary:logistic"}
MANY_CLASSES = {"multi:softprob", "multi:softmax"}
VALUES = {
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "reg:gamma",
    "reg:tweedie",
    "count:poisson",
}
RAW = {"rank:pairwise", "rank:ndcg", "rank:map", "binary:logitraw"}
"""Sums of leaves as they are."""
WRITTEN_AS = {**dict.fromkeys(RAW, "reg:squarederror"), "multi:softmax": "multi:softprob"}
"""Objectives that are converted as another one, whose graph gives what is wanted.

NOTE: onnxmltools takes a RAW one for two classes and squeezes it through a sigmoid; for
multi:softmax it gives the sums as probabilities.
"""
RENAMED = Remedy("column-names", "columns are called f0, f1, … on a copy: no others are taken")


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Read a model file, convert it, and let XGBoost answer for the samples.

    Raises:
        UnsupportedModelError: a kind of booster or objective that is not converted rightly.
        ConversionError: not a model file, or samples that do not fit.
    """
    try:
        booster = xgboost.Booster(model_file=job.source)
    except (xgboost.core.XGBoostError, UnicodeDecodeError) as exc:  # the second quotes the file
        raise ConversionError(
            f'"{Path(job.source).name}" could not be read as an XGBoost model: {_reason(exc)}; '
            "is it whole, and was it written by save_model()?"
        ) from exc
    return _export(booster, job, samples, [], best="scikit_learn" in booster.attributes())


def export_model(
    model: Any, notes: Sequence[str], job: SourceJob, samples: dict[str, Array]
) -> Exported:
    """The same for what came out of a pickle: a Booster or one of the scikit-learn estimators."""
    if isinstance(model, xgboost.Booster):
        return _export(model, job, samples, notes, best=False)
    refuse_missing(model)
    if not model.__sklearn_is_fitted__():
        raise ConversionError("the estimator is not fitted: fit it before saving it")
    return _export(model.get_booster(), job, samples, notes, best=True)


def _export(
    booster: Any, job: SourceJob, samples: dict[str, Array], notes: Sequence[str], *, best: bool
) -> Exported:
    objective = refuse_booster(booster)
    names = tuple(booster.feature_names or ())
    width = booster.num_features()
    table = read_table(
        samples, job.columns, names, width, "an XGBoost model", generated=job.generate
    )
    rounds = _rounds(booster, best)
    remedies = []
    if rounds and rounds < booster.num_boosted_rounds():
        remedies.append(_best_round(booster, rounds))
    if names:
        remedies.append(RENAMED)
    if written := WRITTEN_AS.get(objective):
        what = f"{objective} is converted as {written} on a copy, which gives the same sums"
        remedies.append(Remedy("objective", what))
    outputs = _reference(booster, objective, table, rounds)
    model = _convert(booster, objective, rounds, width)
    label_last(model, "label" in outputs)
    classes = outputs["probabilities"].shape[1] if "probabilities" in outputs else 0
    return Exported(
        model=to_opset(model, job.opset),
        inputs={input_name(samples): table},
        outputs=outputs,
        framework={"xgboost": xgboost.__version__, "onnxmltools": onnxmltools.__version__},
        reference=f"Booster.predict ({objective})",
        labels=tuple(str(index) for index in range(classes)),
        columns=names,
        label_of={"label": "probabilities"} if classes else {},
        warnings=list(notes),
        remedies=remedies,
        call=lambda rows: _reference(booster, objective, next(iter(rows.values())), rounds),
    )


def refuse_missing(model: Any) -> None:
    """Refuse an estimator for which another value than NaN means missing.

    Raises:
        UnsupportedModelError: names the value.
    """
    missing = getattr(model, "missing", math.nan)
    if missing is not None and not math.isnan(missing):
        raise UnsupportedModelError(
            f"the {type(model).__name__} takes {missing} for missing: only NaN is carried; put NaN "
            "there before fitting"
        )


def refuse_booster(booster: Any) -> str:
    """Refuse what would not be converted rightly.

    Returns:
        The objective's name.

    Raises:
        UnsupportedModelError: says what it is and what to train instead.
    """
    learner = json.loads(booster.save_config())["learner"]
    kind = learner["gradient_booster"]["name"]
    if kind == "dart":
        raise UnsupportedModelError(
            "the booster is a DART: its converter ignores the weights of the trees and gives wrong "
            "numbers; train with booster='gbtree'"
        )
    if kind != "gbtree":
        raise UnsupportedModelError(
            f"the booster is a {kind}, which has no converter; train with booster='gbtree', or a "
            "scikit-learn linear model in the place of gblinear"
        )
    if "c" in (booster.feature_types or ()):
        raise UnsupportedModelError(
            "the booster splits on categories, whose codes depend on the table it was trained on; "
            "turn them into numbers or one-hot columns before training"
        )
    shape = learner["learner_model_param"]
    if int(shape.get("num_target", "1")) > 1:
        raise UnsupportedModelError(
            "the booster answers several targets at once; convert one model a target"
        )
    objective = str(learner["objective"]["name"])
    known = TWO_CLASSES | MANY_CLASSES | VALUES | RAW
    if objective not in known:
        raise UnsupportedModelError(
            f"the objective {objective} is not converted rightly; taken: {', '.join(sorted(known))}"
        )
    return objective


def _rounds(booster: Any, best: bool) -> int:
    """Rounds to use; 0 for all. Estimators stop at the best one, a bare Booster does not."""
    found = booster.attributes().get("best_iteration")
    return int(found) + 1 if best and found is not None else 0


def _best_round(booster: Any, rounds: int, path: str = "") -> Remedy:
    what = (
        f"the first {rounds} of {booster.num_boosted_rounds()} rounds are used, up to the best, as "
        "the estimator itself predicts"
    )
    return Remedy("best-round", what, path)


def prepare_step(step: Any, path: str) -> list[Remedy]:
    """Bring a fitted estimator that is a step of a pipeline to a form that converts rightly.

    Args:
        step: changed in place: a copy of the user's.
        path: its place, for messages.

    Raises:
        UnsupportedModelError: it would not convert rightly.
    """
    booster = step.get_booster()
    try:
        refuse_missing(step)
        refuse_booster(booster)
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f'step "{path}": {exc.message}') from exc
    rounds = _rounds(booster, best=True)
    remedies = []
    if rounds and rounds < booster.num_boosted_rounds():
        remedies.append(_best_round(booster, rounds, path))
        step._Booster = booster[:rounds]  # noqa: SLF001  (there is no public way in)
    if booster.feature_names:
        remedies.append(msgspec.structs.replace(RENAMED, where=path))
        _drop_names(step.get_booster())
    register()
    return remedies


def register() -> None:
    """Tell skl2onnx who converts XGBoost's estimators inside a pipeline."""
    skl2onnx.update_registered_converter(
        xgboost.XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    skl2onnx.update_registered_converter(
        xgboost.XGBRegressor,
        "XGBoostXGBRegressor",
        calculate_linear_regressor_output_shapes,
        convert_xgboost,
    )


def _reference(booster: Any, objective: str, table: Array, rounds: int) -> dict[str, Array]:
    """XGBoost's own numbers."""
    rows = xgboost.DMatrix(table, feature_names=booster.feature_names)
    if objective in MANY_CLASSES:
        # multi:softmax predicts the class alone: its probabilities are the softmax of the margins.
        sums = booster.predict(rows, output_margin=True, iteration_range=(0, rounds))
        shares = np.exp(sums - sums.max(axis=1, keepdims=True))
        scores = shares / shares.sum(axis=1, keepdims=True)
        return {"probabilities": scores, "label": scores.argmax(axis=1)}
    values = booster.predict(rows, iteration_range=(0, rounds))
    if objective in TWO_CLASSES:
        scores = np.column_stack([1 - values, values])
        return {"probabilities": scores, "label": (values > 0.5).astype(np.int64)}
    return {"prediction": values}


def _convert(booster: Any, objective: str, rounds: int, width: int) -> Any:
    copy = booster[:rounds] if rounds else booster.copy()
    _drop_names(copy)
    if written := WRITTEN_AS.get(objective):
        copy.set_param({"objective": written})
    try:
        return onnxmltools.convert_xgboost(
            copy,
            initial_types=[(FEATURES, FloatTensorType([None, width]))],
            target_opset=CONVERTER_OPSET,
        )
    except Exception as exc:
        raise UnsupportedModelError(
            f"onnxmltools {onnxmltools.__version__} cannot convert this booster: "
            f"{type(exc).__name__}: {_reason(exc)}"
        ) from exc


def _drop_names(booster: Any) -> None:
    """Let its columns be f0, f1, …: the converter takes no other names."""
    booster.feature_names = None


def _reason(exc: Exception) -> str:
    """The first line without XGBoost's clock, and without its own path and line."""
    if isinstance(exc, UnicodeDecodeError):
        return "it is of another kind"
    line = first_line(exc, 4096)
    return re.sub(r"^\[[0-9:]+\] \S+:[0-9]+: ", "", line)[:300]
