"""The steps of a scikit-learn model: which are refused, and a copy that skl2onnx converts rightly.

skl2onnx converts some steps wrongly without a word. Each of them is refused by name, or repaired on
a copy or by an option, and the repair is told as a Remedy.
"""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import google.protobuf
import numpy as np
import skl2onnx
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import Remedy
from converters.sources.table import FEATURES
from converters.sources.trees import ML_OPSET, SPLIT_TREES

REFUSED = {
    "FunctionTransformer": "it calls a Python function; do that step before the model, or use a "
    "built-in transformer",
    "TargetEncoder": "its conversion gives wrong numbers; encode the column before the model",
    "QuantileTransformer": "its conversion is off by 0.003 and takes minutes; use "
    "StandardScaler or PowerTransformer",
    "TfidfVectorizer": "text inputs are not carried by bundles; vectorise before the model",
    "CountVectorizer": "text inputs are not carried by bundles; vectorise before the model",
    "HashingVectorizer": "text inputs are not carried by bundles; vectorise before the model",
    "DictVectorizer": "dictionaries are not tensors; vectorise before the model",
    "KBinsDiscretizer": "its sparse one-hot output is not carried by ONNX; set "
    "encode='onehot-dense' or 'ordinal'",
    "SplineTransformer": "there is no converter; compute the features before the model",
}
"""Steps that convert wrongly or not at all, and what to do instead."""
SCALER_OPTIONS = {"div": "div"}
"""NOTE: the stock multiply by the reciprocal moves rows across tree thresholds."""
BOOSTED_STEPS = {
    "xgboost": {"XGBClassifier", "XGBRegressor"},
    "lightgbm": {"LGBMClassifier", "LGBMRegressor"},
}
"""Boosters that may be a step of a pipeline; their own sources prepare and register them."""
ADVICE = {
    "catboost": "save the CatBoost model itself as .cbm and do the other steps before it",
    "xgboost": "XGBClassifier and XGBRegressor are taken as a step; save any other by itself",
    "lightgbm": "LGBMClassifier and LGBMRegressor are taken as a step; save any other by itself",
}
"""What to do with a step of these packages that is not converted."""


def booster_source(family: str) -> Any:
    """The source of a boosting package.

    Raises:
        ConversionError: what converts it is not installed.
    """
    try:
        return importlib.import_module(f"converters.sources.{family}")
    except ImportError as exc:
        raise ConversionError(
            f"a {family} model needs {exc.name or 'a package'}, which is not installed: "
            "pip install 'edged[convert-boost]'"
        ) from exc


def walk(model: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every estimator in a model with its place, e.g. ``pipeline.scale``."""
    yield path or type(model).__name__, model
    for name, child in _children(model):
        yield from walk(child, f"{path}.{name}" if path else name)


def _children(model: Any) -> Iterator[tuple[str, Any]]:
    steps = getattr(model, "steps", None)
    if isinstance(steps, list):
        yield from _named(steps)
        return
    for attribute in ("transformers_", "transformer_list"):
        yield from _named(getattr(model, attribute, None))
    named, fitted = getattr(model, "estimators", None), getattr(model, "estimators_", None)
    if isinstance(named, list) and isinstance(fitted, list) and len(named) == len(fitted):
        names = [entry[0] for entry in named]
        yield from _named(list(zip(names, fitted, strict=True)))
    elif isinstance(fitted, list) and not _is_forest(fitted):
        yield from _named([(f"estimators_[{index}]", child) for index, child in enumerate(fitted)])
    for index, calibrated in enumerate(getattr(model, "calibrated_classifiers_", ())):
        yield f"calibrated[{index}]", calibrated.estimator
    for attribute in ("estimator", "final_estimator_", "base_estimator"):
        child = getattr(model, attribute, None)
        if isinstance(child, BaseEstimator):
            yield attribute, child


def _named(entries: Any) -> Iterator[tuple[str, Any]]:
    """The pairs among them whose second is an estimator (and not ``passthrough`` or ``drop``)."""
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, tuple) and hasattr(entry[1], "get_params"):
            yield entry[0], entry[1]


def _is_forest(fitted: list[Any]) -> bool:
    """Trees by the hundred, all of one kind that converts: nothing to look at."""
    return all(type(child).__module__ == "sklearn.tree._classes" for child in fitted)


def refuse_steps(model: Any) -> None:
    """Refuse what cannot be converted before skl2onnx is asked.

    Raises:
        UnsupportedModelError: names the step, its place and what to do.
    """
    known = skl2onnx.supported_converters()
    for path, step in walk(model):
        kind = type(step).__name__
        if kind in REFUSED and not _is_harmless(step):
            raise UnsupportedModelError(f'step "{path}" is a {kind}: {REFUSED[kind]}')
        if kind.startswith("HistGradientBoosting") and _protobuf_major() >= 7:
            raise UnsupportedModelError(
                f'step "{path}" is a {kind}, which skl2onnx {skl2onnx.__version__} cannot convert '
                f"with protobuf {google.protobuf.__version__}: pip install 'protobuf>=6.31.1,<7'"
            )
        if texts := _texts(step):
            shown = ", ".join(f'"{text}"' for text in texts[:3])
            raise UnsupportedModelError(
                f'step "{path}" ({kind}) takes text ({shown}{", …" * (len(texts) > 3)}): words are '
                "carried where a OneHotEncoder or OrdinalEncoder (a SimpleImputer may stand before "
                "it) is the first to see them, in pipelines and ColumnTransformers. Else give each "
                "text its number before the model, and fit the pipeline on those numbers"
            )
        name = f"Sklearn{kind}"
        family = type(step).__module__.partition(".")[0]
        if family in BOOSTED_STEPS and kind in BOOSTED_STEPS[family]:
            continue
        if family != "sklearn" or (name not in known and not _has_alias(type(step))):
            advice = ADVICE.get(
                family, "replace that step by another estimator or do it before the model"
            )
            raise UnsupportedModelError(
                f'step "{path}" is a {kind} ({type(step).__module__}): skl2onnx '
                f"{skl2onnx.__version__} has no converter for it; {advice}"
            )


def takes_texts(model: Any) -> bool:
    """Whether any step was fitted on text."""
    return any(_texts(step) for _, step in walk(model))


def _texts(step: Any) -> list[str]:
    """The texts that an encoder or imputer was fitted on; none where it takes numbers."""
    fitted = getattr(step, "categories_", None)
    columns = fitted if isinstance(fitted, list) else [getattr(step, "statistics_", ())]
    return [value for column in columns for value in column if isinstance(value, str)]


def _protobuf_major() -> int:
    return int(google.protobuf.__version__.partition(".")[0])


def _is_harmless(step: Any) -> bool:
    """Settings of a listed step that do convert."""
    is_identity = getattr(step, "func", "") is None
    return is_identity or getattr(step, "encode", "onehot") != "onehot"


def _has_alias(kind: type) -> bool:
    try:
        skl2onnx.get_model_alias(kind)
    except (RuntimeError, AttributeError):
        return kind.__name__ in {"Pipeline", "ColumnTransformer", "FeatureUnion"}
    return True


def to_onnx(model: Any, features: int, opset: int) -> tuple[Any, list[Remedy]]:
    """Convert a copy that was brought to a form that skl2onnx converts rightly.

    Raises:
        UnsupportedModelError: skl2onnx cannot; names the steps.
    """
    plain, remedies = _prepared(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = skl2onnx.to_onnx(
                plain,
                initial_types=[(FEATURES, FloatTensorType([None, features]))],
                options=_options(plain),
                target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
            )
    except Exception as exc:
        first = str(exc).strip().split("\n", 1)[0]
        raise UnsupportedModelError(
            f"skl2onnx {skl2onnx.__version__} cannot convert this {type(model).__name__} "
            f"(steps: {', '.join(dict.fromkeys(type(s).__name__ for _, s in walk(model)))}): "
            f"{first}; replace that step by another estimator"
        ) from exc
    return converted, remedies


def _prepared(model: Any) -> tuple[Any, list[Remedy]]:
    """A copy brought to a form that skl2onnx converts rightly; what it computes is the same."""
    plain = copy.deepcopy(model)
    remedies: list[Remedy] = []
    for path, step in walk(plain):
        kind = type(step).__name__
        family = type(step).__module__.partition(".")[0]
        if family in BOOSTED_STEPS:
            remedies += booster_source(family).prepare_step(step, path)
        elif kind == "ColumnTransformer" and hasattr(step, "feature_names_in_"):
            _columns_by_position(step)
            remedies.append(Remedy("named-columns", "columns are chosen by position", path))
        elif kind == "VotingClassifier":
            _unflatten(step)
            what = "flatten_transform, which predictions never use, was switched off"
            remedies.append(Remedy("voting-flatten", what, path))
        elif kind.startswith("HistGradientBoosting") and hasattr(step, "_predictors"):
            _round_thresholds(step)
            what = "thresholds rounded down to float32: rows on one stay on their side"
            remedies.append(Remedy("tree-thresholds", what, path))
        elif kind == "StandardScaler" and SCALER_OPTIONS:
            what = "divides as scikit-learn does; a product with 1/scale moves rows across trees"
            remedies.append(Remedy("scaler-division", what, path))
    return plain, remedies


def _unflatten(step: Any) -> None:
    """Switch off what shapes transform(), which a classifier never calls and skl2onnx refuses."""
    step.flatten_transform = False


def _columns_by_position(step: Any) -> None:
    """Let a ColumnTransformer choose columns by number: one table goes in, not many."""
    names = list(step.feature_names_in_)
    step.transformers_ = [
        (name, child, [names.index(c) if isinstance(c, str) else c for c in columns])
        if isinstance(columns, list | np.ndarray)
        else (name, child, columns)
        for name, child, columns in step.transformers_
    ]


def _round_thresholds(step: Any) -> None:
    """Round float64 thresholds down to float32: for float32 inputs ``x <= t`` stays the same.

    NOTE: skl2onnx rounds them to the nearest, which sends rows on a threshold the other way.
    """
    for predictors in step._predictors:  # noqa: SLF001  (there is no public way to the trees)
        for predictor in predictors:
            exact = predictor.nodes["num_threshold"]
            rounded = exact.astype(np.float32)
            lower = np.nextafter(rounded, np.float32(-np.inf))
            predictor.nodes["num_threshold"] = np.where(rounded > exact, lower, rounded)


def _options(model: Any) -> dict[Any, dict[str, Any]]:
    """The conversion options, by kind of step or by the last step's id."""
    options: dict[Any, dict[str, Any]] = {}
    final = _final(model)
    allowed = _allowed_options(final)
    chosen: dict[str, Any] = {}
    if "zipmap" in allowed:
        chosen["zipmap"] = False
    if "raw_scores" in allowed and not hasattr(final, "predict_proba"):
        chosen["raw_scores"] = True
    if type(final).__module__.startswith("lightgbm.") and "split" in allowed:
        chosen["split"] = SPLIT_TREES
    if chosen:
        options[id(final)] = chosen
    if SCALER_OPTIONS:
        options[StandardScaler] = dict(SCALER_OPTIONS)
    return options


def _final(model: Any) -> Any:
    while hasattr(model, "steps"):
        model = model.steps[-1][1]
    return model


def _allowed_options(step: Any) -> set[str]:
    try:
        converter = get_converter(skl2onnx.get_model_alias(type(step)))
        return set(converter.get_allowed_options() or ())
    except (RuntimeError, ValueError, AttributeError, NotImplementedError):
        return set()
