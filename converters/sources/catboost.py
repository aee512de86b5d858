"""CatBoost: model files (.cbm), which are data, and models out of a pickle.

Converts with CatBoost's own exporter. It wraps probabilities into dictionaries, forgets the last
step of some losses, and knows neither categories nor text: the first two are put right, the last
two refused by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import Exported, Remedy, SourceJob
from converters.sources.table import input_name, read_table
from converters.sources.trees import (
    append_operator,
    cut_zipmap,
    label_last,
    set_post_transform,
    to_opset,
)
from edged.errors import first_line
from edged.tensors import Array

CLASSES = {"Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll"}
VALUES = {"RMSE", "MAE", "Quantile", "Expectile", "Huber", "MAPE", "Lq", "LogCosh"}
RANKS = {"QueryRMSE", "YetiRank", "PairLogit", "PairLogitPairwise", "YetiRankPairwise"}
EXPONENTS = {"Poisson", "Tweedie"}
"""Losses whose answer is the exponent of the sum of leaves.

NOTE: CatBoost's exporter leaves the exponent out.
"""


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Read a model file, convert it, and let CatBoost answer for the samples.

    Raises:
        UnsupportedModelError: columns or a loss that are not converted rightly.
        ConversionError: not a model file, or samples that do not fit.
    """
    try:
        model = catboost.CatBoost().load_model(job.source, format="cbm")
    except catboost.CatBoostError as exc:
        raise ConversionError(
            f'"{Path(job.source).name}" could not be read as a CatBoost model: {_reason(exc)}; is '
            "it whole, and was it written by save_model() in the format cbm?"
        ) from exc
    return export_model(model, [], job, samples)


def export_model(
    model: Any, notes: Sequence[str], job: SourceJob, samples: dict[str, Array]
) -> Exported:
    """The same for what came out of a pickle: a CatBoost model or estimator."""
    if not model.is_fitted():
        raise ConversionError("the model is not fitted: fit it before saving it")
    loss = refuse_model(model)
    names = tuple(str(name) for name in model.feature_names_)
    width = len(names)
    if names == tuple(str(index) for index in range(width)):
        names = ()
    table = read_table(
        samples, job.columns, names, width, "a CatBoost model", generated=job.generate
    )
    outputs = _reference(model, loss, table)
    graph = _convert(model)
    remedies = _repair(graph, loss, len(model.classes_))
    label_last(graph, "label" in outputs)
    return Exported(
        model=to_opset(graph, job.opset),
        inputs={input_name(samples): table},
        outputs=outputs,
        framework={"catboost": catboost.__version__, "onnx": onnx.__version__},
        reference=f"CatBoost.predict ({loss})",
        labels=tuple(str(entry) for entry in model.classes_),
        columns=names,
        label_of={"label": "probabilities"} if "label" in outputs else {},
        warnings=list(notes),
        remedies=remedies,
        call=lambda rows: _reference(model, loss, next(iter(rows.values()))),
    )


def refuse_model(model: Any) -> str:
    """Refuse what would not be converted rightly.

    Returns:
        The loss function's name without its settings.

    Raises:
        UnsupportedModelError: names the columns or the loss and says what to do.
    """
    names = model.feature_names_
    for kind, found in (
        ("categorical", model.get_cat_feature_indices()),
        ("text", model.get_text_feature_indices()),
        ("embedding", model.get_embedding_feature_indices()),
    ):
        if found:
            listed = ", ".join(f'"{names[index]}"' for index in found)
            raise UnsupportedModelError(
                f"the model has {kind} columns ({listed}), which CatBoost does not export to ONNX; "
                "turn them into numbers or one-hot columns before training"
            )
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    known = CLASSES | VALUES | RANKS | EXPONENTS
    if loss not in known:
        raise UnsupportedModelError(
            f'the loss function "{loss}" is not exported rightly; taken: {", ".join(sorted(known))}'
        )
    return loss


def _reference(model: Any, loss: str, table: Array) -> dict[str, Array]:
    """CatBoost's own numbers; the base class, so that a file and an estimator answer alike."""
    predict = catboost.CatBoost.predict
    if loss in CLASSES:
        scores = np.asarray(predict(model, table, prediction_type="Probability"))
        label = np.asarray(predict(model, table, prediction_type="Class")).reshape(-1)
        if label.dtype.kind not in "iu":
            return {"probabilities": scores}
        return {"probabilities": scores, "label": label}
    kind = "Exponent" if loss in EXPONENTS else "RawFormulaVal"
    return {"prediction": np.asarray(predict(model, table, prediction_type=kind))}


def _convert(model: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.save_model(str(path), format="onnx")
        except catboost.CatBoostError as exc:
            raise UnsupportedModelError(
                f"CatBoost {catboost.__version__} does not export this model: {_reason(exc)} "
                "(trees of grow_policy='SymmetricTree' are exported)"
            ) from exc
        return onnx.load(path)


def _repair(graph: onnx.ModelProto, loss: str, classes: int) -> list[Remedy]:
    """Put the exported graph right; says what was done."""
    done = []
    if loss in CLASSES:
        cut_zipmap(graph, classes)
        done.append(Remedy("zipmap", "probabilities come as one tensor, not as dictionaries"))
    if loss == "MultiClassOneVsAll":
        set_post_transform(graph, "LOGISTIC")
        done.append(Remedy("one-versus-all", "a sigmoid a class, where a softmax was exported"))
    if loss in EXPONENTS:
        append_operator(graph, "Exp")
        done.append(Remedy("exponent", f"{loss}: the exponent that is not exported was put in"))
    return done


def _reason(exc: Exception) -> str:
    """The first line without CatBoost's own path and line."""
    line = first_line(exc, 4096)
    return line.split(": ", 1)[-1][:300]
