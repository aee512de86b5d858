"""LightGBM: model files (.txt), which are data, and boosters or estimators out of a pickle.

Converts with onnxmltools, through the text form of the model: that is where thresholds are rounded
so that float32 rows go the way that float64 rows went. What the converter gets wrong without a word
is refused by name before it is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import onnxmltools
import skl2onnx
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import Exported, Remedy, SourceJob
from converters.sources.table import FEATURES, input_name, read_table
from converters.sources.trees import CONVERTER_OPSET, SPLIT_TREES, label_last, to_opset
from edged.errors import first_line
from edged.tensors import Array

TWO_CLASSES = {"binary"}
MANY_CLASSES = {"multiclass"}
VALUES = {
    "regression",
    "regression_l1",
    "huber",
    "quantile",
    "poisson",
    "gamma",
    "tweedie",
    "lambdarank",
}
THRESHOLDS = Remedy(
    "tree-thresholds", "thresholds rounded down to float32: rows on one stay on their side"
)
MAX_TEXT_BYTES = 1 << 30
_MISSING_ZERO = 1 << 2
"""In ``decision_type``: bits 2 and 3 say what counts as missing; 1 is zero."""


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Read a model file, convert it, and let LightGBM answer for the samples.

    Raises:
        UnsupportedModelError: a kind of tree or objective that is not converted rightly.
        ConversionError: not a whole model file, or samples that do not fit.
    """
    path = Path(job.source)
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ConversionError(f'"{path.name}" is over {MAX_TEXT_BYTES} bytes')
    text = path.read_bytes().decode("utf-8", "replace")
    refuse_broken(text, path.name)
    return _export(_load(text), (), [], job, samples)


def export_model(
    model: Any, notes: Sequence[str], job: SourceJob, samples: dict[str, Array]
) -> Exported:
    """The same for what came out of a pickle: a Booster or one of the scikit-learn estimators."""
    if isinstance(model, lightgbm.Booster):
        return _export(_load(model.model_to_string()), (), notes, job, samples)
    if not model.__sklearn_is_fitted__():
        raise ConversionError("the estimator is not fitted: fit it before saving it")
    classes = tuple(str(entry) for entry in getattr(model, "classes_", ()))
    return _export(_load(model.booster_.model_to_string()), classes, notes, job, samples)


def prepare_step(step: Any, path: str) -> list[Remedy]:
    """Bring a fitted estimator that is a step of a pipeline to a form that converts rightly.

    Args:
        step: changed in place: a copy of the user's.
        path: its place, for messages.

    Raises:
        UnsupportedModelError: it would not convert rightly.
    """
    text = step.booster_.model_to_string()
    try:
        refuse_text(text)
    except UnsupportedModelError as exc:
        raise UnsupportedModelError(f'step "{path}": {exc.message}') from exc
    step._Booster = _load(round_thresholds(text))  # noqa: SLF001  (there is no public way in)
    register()
    return [msgspec.structs.replace(THRESHOLDS, where=path)]


def register() -> None:
    """Tell skl2onnx who converts LightGBM's estimators inside a pipeline."""
    skl2onnx.update_registered_converter(
        lightgbm.LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    skl2onnx.update_registered_converter(
        lightgbm.LGBMRegressor,
        "LightGbmLGBMRegressor",
        calculate_linear_regressor_output_shapes,
        _convert_regressor,
        options={"split": None},
    )


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    """What onnxmltools reads from the operator stands in skl2onnx' options."""
    operator.split = scope.get_options(operator.raw_operator, {"split": None})["split"]
    convert_lightgbm(scope, operator, container)


def refuse_broken(text: str, name: str) -> None:
    """Refuse a file that is not whole, before LightGBM sees it.

    NOTE: LightGBM 4.7 reads on beyond the end of a text that was cut short, and crashes.

    Raises:
        ConversionError: says what is missing.
    """
    head, *trees = re.split(r"^Tree=", text, flags=re.MULTILINE)
    if not re.match(r"tree\r?\nversion=v[34]\r?\n", head):
        raise ConversionError(
            f'"{name}" is not a LightGBM model: it does not begin with "tree" and a version that '
            "is known; write it with save_model()"
        )
    sizes = re.search(r"^tree_sizes=([0-9 ]+)$", head, re.MULTILINE)
    wanted = len(sizes[1].split()) if sizes else 0
    whole = trees and re.search(r"^end of trees$", trees[-1], re.MULTILINE)
    if wanted != len(trees) or not whole:
        raise ConversionError(
            f'"{name}" holds {len(trees)} of {wanted} trees{"" if whole else " and no end"}: it '
            "was cut short or changed"
        )


def refuse_text(text: str) -> str:
    """Refuse what would not be converted rightly.

    Returns:
        The objective's name.

    Raises:
        UnsupportedModelError: says what it is and what to train instead.
    """
    objective, *settings = _field(text, "objective").split() or [""]
    known = TWO_CLASSES | MANY_CLASSES | VALUES
    if objective not in known:
        raise UnsupportedModelError(
            f'the objective "{objective}" is not converted rightly; taken: '
            f"{', '.join(sorted(known))}"
        )
    wrong = [word for word in settings if word == "sqrt" or word.startswith("sigmoid:")]
    if any(word != "sigmoid:1" for word in wrong):
        raise UnsupportedModelError(
            f"the objective has the setting {wrong[0]}, which the converter ignores; train with "
            "sigmoid=1 and without reg_sqrt"
        )
    if re.search(r"^average_output$", text, re.MULTILINE):
        raise UnsupportedModelError(
            "the booster is a random forest (boosting=rf), whose mean the converter takes for a "
            "sum; use scikit-learn's RandomForest, or boosting=gbdt"
        )
    if re.search(r"^is_linear=1$", text, re.MULTILINE):
        raise UnsupportedModelError(
            "the leaves hold linear models (linear_tree), which the converter drops; train without"
        )
    decisions = re.findall(r"^decision_type=(.*)$", text, re.MULTILINE)
    if any(int(word) & 12 == _MISSING_ZERO for line in decisions for word in line.split()):
        raise UnsupportedModelError(
            "zeros count as missing (zero_as_missing), which the converter ignores; put NaN there "
            "and train without"
        )
    return objective


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _load(text: str) -> Any:
    lightgbm.register_logger(_Silent())
    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as exc:
        raise ConversionError(f"LightGBM does not read the model: {exc}") from exc


class _Silent:
    """LightGBM talks on stdout; its errors come as exceptions too."""

    def info(self, _message: str) -> None:
        """Nobody listens."""

    warning = info


def round_thresholds(text: str) -> str:
    """Round float64 thresholds down to float32: for float32 rows ``x <= t`` stays the same.

    NOTE: onnxmltools rounds them to the nearest, which sends rows on a threshold the other way.
    """
    text = re.sub(
        r"^threshold=(.*)$",
        lambda line: "threshold=" + " ".join(map(_round_down, line[1].split())),
        text,
        flags=re.MULTILINE,
    )
    # The sizes are those of the old text; without them LightGBM looks for the trees itself.
    return re.sub(r"^tree_sizes=.*\n", "", text, count=1, flags=re.MULTILINE)


def _round_down(word: str) -> str:
    exact = float(word)
    with np.errstate(over="ignore"):
        rounded = np.float32(exact)
    if float(rounded) > exact:
        rounded = np.nextafter(rounded, np.float32(-np.inf))
    return repr(float(rounded))


def _export(
    booster: Any,
    classes: tuple[str, ...],
    notes: Sequence[str],
    job: SourceJob,
    samples: dict[str, Array],
) -> Exported:
    text = booster.model_to_string()
    objective = refuse_text(text)
    width = booster.num_feature()
    names = tuple(booster.feature_name())
    if names == tuple(f"Column_{index}" for index in range(width)):
        names = ()
    table = read_table(
        samples, job.columns, names, width, "a LightGBM model", generated=job.generate
    )
    is_classifier = objective in TWO_CLASSES | MANY_CLASSES
    outputs = _reference(booster, table, is_classifier)
    labels = classes
    if is_classifier and not labels:
        labels = tuple(str(index) for index in range(outputs["probabilities"].shape[1]))
    if labels != tuple(str(index) for index in range(len(labels))):
        del outputs["label"]  # a number that is not the class's name would only mislead
    split = SPLIT_TREES if not is_classifier and booster.num_trees() > SPLIT_TREES else None
    model = _convert(_load(round_thresholds(text)), width, split)
    label_last(model, "label" in outputs)
    remedies = [THRESHOLDS]
    if "label" in outputs:
        what = "the label is declared as long as the rows, not of length 1"
        remedies.append(Remedy("label-shape", what))
    if split:
        what = f"{booster.num_trees()} trees are summed {split} at a time, then in float64"
        remedies.append(Remedy("many-trees", what))
    return Exported(
        model=to_opset(model, job.opset),
        inputs={input_name(samples): table},
        outputs=outputs,
        framework={"lightgbm": lightgbm.__version__, "onnxmltools": onnxmltools.__version__},
        reference=f"Booster.predict ({objective})",
        labels=labels,
        columns=names,
        label_of={"label": "probabilities"} if "label" in outputs else {},
        warnings=list(notes),
        remedies=remedies,
        call=lambda rows: {
            name: array
            for name, array in _reference(booster, next(iter(rows.values())), is_classifier).items()
            if name in outputs
        },
    )


def _reference(booster: Any, table: Array, is_classifier: bool) -> dict[str, Array]:
    """LightGBM's own numbers."""
    values = np.asarray(booster.predict(table, num_threads=1))
    if not is_classifier:
        return {"prediction": values}
    if values.ndim == 1:
        values = np.column_stack([1 - values, values])
    return {"probabilities": values, "label": values.argmax(axis=1)}


def _convert(booster: Any, width: int, split: int | None) -> Any:
    try:
        return onnxmltools.convert_lightgbm(
            booster,
            initial_types=[(FEATURES, FloatTensorType([None, width]))],
            target_opset=CONVERTER_OPSET,
            zipmap=False,
            split=split,
        )
    except Exception as exc:
        first = first_line(exc)
        raise UnsupportedModelError(
            f"onnxmltools {onnxmltools.__version__} cannot convert this booster: "
            f"{type(exc).__name__}: {first}"
        ) from exc
