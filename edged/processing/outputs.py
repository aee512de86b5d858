"""A model's outputs to what people and programs read: one JSON-able dict a row.

Decides activation, ranking, labels and threshold; pure. Numbers that JSON cannot carry (NaN,
infinities) become null; whole numbers stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.errors import FieldError
from edged.manifest import Manifest
from edged.processing.ranking_text import ranking_texts
from edged.processing.texts import unpack_texts
from edged.specs import OutputProcessing, OutputSpec
from edged.tensors import DTYPES, Array, TensorSpec

Output = Callable[[Mapping[str, Array]], list[dict[str, Any]]]
Documents = Callable[[bytes, Mapping[str, Array]], "list[bytes] | None"]
"""The same as JSON documents that begin with these bytes; None where rows must be made first."""

_PLAIN = OutputProcessing()
_FEW = 64
"""Scores that are ranked faster as Python numbers than in NumPy."""
_INFINITY = float("inf")


def build_output(spec: OutputSpec, manifest: Manifest) -> Output:
    """Make the function that turns a response's tensors into rows.

    With labels (the bundle has some and ``labels`` is on), ``top_k`` or ``threshold``, each row is
    ``{"label", "score", "top": [{"label", "score"}, …]}`` of one output: the named one, else the
    first with labels, else the first. Where the bundle has no labels the label is the entry's
    number. Otherwise each row is ``{"<output>": value, …}`` of the named output or of all.

    Raises:
        FieldError: no such output, or one that cannot be ranked or activated.
    """
    specs = {entry.name: entry for entry in manifest.output_specs()}
    chosen = _choose(spec, manifest, specs)
    for one in [chosen] if spec.tensor is not None else specs.values():
        if one.dtype not in DTYPES:
            raise FieldError(
                "output.tensor",
                f'model "{manifest.name}" gives "{one.name}" {one}, which becomes no payload; '
                "name another output",
            )
    work = manifest.output_processing.get(chosen.name, _PLAIN)
    _check_activation(spec, chosen)
    activation = work.activation if spec.activation == "bundle" else spec.activation
    labels = work.labels if spec.labels else ()
    if shows_ranking(spec, manifest):
        _check_ranked(spec, chosen)
        return _Ranking(chosen.name, activation, labels, spec.top_k, spec.threshold)
    shown = [chosen] if spec.tensor is not None else list(specs.values())
    activations = {
        name: manifest.output_processing.get(name, _PLAIN).activation for name in specs
    } | {chosen.name: activation}
    texts = {name for name, work in manifest.output_processing.items() if work.text is True}
    return _Plain(
        tuple((one.name, activations[one.name], _has_rows(one)) for one in shown), frozenset(texts)
    )


def documents_of(output: Output) -> Documents | None:
    """The short way from outputs to JSON, where an output has one."""
    return output.documents if isinstance(output, _Ranking) else None


def shows_ranking(spec: OutputSpec, manifest: Manifest) -> bool:
    """Whether rows are labels with scores."""
    chosen = _choose(spec, manifest, {entry.name: entry for entry in manifest.output_specs()})
    labels = manifest.output_processing.get(chosen.name, _PLAIN).labels if spec.labels else ()
    return bool(spec.top_k or spec.threshold is not None or (labels and _is_ranked(chosen)))


def shown_outputs(spec: OutputSpec, manifest: Manifest) -> list[TensorSpec]:
    """The outputs that plain rows show."""
    found = manifest.output_specs()
    return [one for one in found if spec.tensor is None or one.name == spec.tensor]


def _choose(spec: OutputSpec, manifest: Manifest, specs: dict[str, TensorSpec]) -> TensorSpec:
    if spec.tensor is not None:
        if spec.tensor not in specs:
            known = ", ".join(f'"{name}"' for name in specs)
            raise FieldError(
                "output.tensor",
                f'model "{manifest.name}" has no output "{spec.tensor}"; it has {known}',
            )
        return specs[spec.tensor]
    if spec.labels:
        for name, work in manifest.output_processing.items():
            if work.labels and _is_ranked(specs[name]):
                return specs[name]
    return next(iter(specs.values()))


def _is_ranked(spec: TensorSpec) -> bool:
    """Whether there is one list of scores a row."""
    return len(spec.shape) == 2 or (len(spec.shape) == 1 and not spec.is_batched)


def _has_rows(spec: TensorSpec) -> bool:
    return bool(spec.shape) and (spec.is_batched or spec.shape[0] == 1)


def _check_activation(spec: OutputSpec, chosen: TensorSpec) -> None:
    if spec.activation in {"softmax", "sigmoid"} and DTYPES[chosen.dtype].numpy.kind != "f":
        raise FieldError(
            "output.activation",
            f'output "{chosen.name}" is {chosen}; {spec.activation} needs floating-point scores',
        )


def _check_ranked(spec: OutputSpec, chosen: TensorSpec) -> None:
    if not _is_ranked(chosen):
        raise FieldError(
            "output.top_k" if spec.top_k else "output.threshold",
            f'output "{chosen.name}" is {chosen}; only one list of scores a row can be ranked',
        )


def activate(values: Array, activation: str) -> Array:
    """Apply softmax (over the last axis) or sigmoid, without overflow for any finite scores.

    Args:
        values: float[…, k]; anything else comes back as it is for ``none``.
        activation: ``none``, ``softmax`` or ``sigmoid``.

    Returns:
        float64 of the same shape, or ``values`` itself.
    """
    if activation == "none":
        return values
    scores = values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if activation == "sigmoid":
            small = np.exp(-np.abs(scores))
            return np.where(scores >= 0, 1.0, small) / (1.0 + small)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def plain_values(values: Array) -> Any:
    """Nested lists of Python numbers, with None for what JSON cannot carry."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        boxed = values.astype(object)
        boxed[~np.isfinite(values)] = None
        return boxed.tolist()
    return values.tolist()


@dataclass(frozen=True, slots=True)
class _Plain:
    """Every shown output under its own name."""

    shown: tuple[tuple[str, str, bool], ...]
    texts: frozenset[str]

    def __call__(self, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] | None = None
        whole: dict[str, Any] = {}
        for name, activation, has_rows in self.shown:
            if name in self.texts:
                values = unpack_texts(outputs[name])
            else:
                values = plain_values(activate(outputs[name], activation))
            if not has_rows:
                whole[name] = values
                continue
            if rows is None:
                rows = [{} for _ in values]
            for row, value in zip(rows, values, strict=False):
                row[name] = value
        return [whole] if rows is None else [row | whole for row in rows]


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One output as labels with scores."""

    name: str
    activation: str
    labels: tuple[str, ...]
    top_k: int
    threshold: float | None

    def __call__(self, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
        values = outputs[self.name]
        if values.ndim == 1:
            values = values[np.newaxis]
        scores = activate(values, self.activation)
        if self.threshold is None and scores.shape[1] <= _FEW:
            return [self._few(row) for row in scores.tolist()]
        return [self._row(row) for row in scores]

    def documents(self, begin: bytes, outputs: Mapping[str, Array]) -> list[bytes] | None:
        """Each row as a JSON document that begins so; None where that has no short way."""
        values, labels = outputs[self.name], self.labels
        is_usual = self.threshold is None and not self.top_k and labels and values.ndim == 2
        if not is_usual or values.shape[1] != len(labels) or len(labels) > _FEW:
            return None
        scores: list[float] = activate(values, self.activation).ravel().tolist()
        return ranking_texts(labels, scores, begin)

    def _finite(self, scores: list[Any]) -> dict[str, Any]:
        """The same as ``_few`` where every score is a number."""
        labels: Sequence[str | int] = self.labels or range(len(scores))
        if self.top_k:
            shown = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
            best = shown[0]
            top = [{"label": labels[i], "score": scores[i]} for i in shown[: self.top_k]]
        else:
            best = scores.index(max(scores))
            top = [
                {"label": label, "score": score}
                for label, score in zip(labels, scores, strict=False)
            ]
        return {"label": labels[best], "score": scores[best], "top": top}

    def _row(self, scores: Array) -> dict[str, Any]:
        best_first = _best_first(scores)
        shown = best_first[: self.top_k] if self.top_k else range(len(scores))
        plain = plain_values(scores)
        top = [self._entry(index, plain) for index in shown if self._passes(scores[index])]
        if len(best_first) == 0 or not self._passes(scores[best_first[0]]):
            return {"label": None, "score": None, "top": top}
        return {**self._entry(best_first[0], plain), "top": top}

    def _few(self, scores: list[Any]) -> dict[str, Any]:
        """The same as ``_row`` for a short list without a threshold, in a quarter of the time."""
        total = sum(scores)
        if scores and total - total == 0:  # then all of them are numbers, and none is infinite
            return self._finite(scores)
        numbers = [index for index, score in enumerate(scores) if score == score]  # noqa: PLR0124
        best_first = sorted(numbers, key=scores.__getitem__, reverse=True)
        plain = [score if -_INFINITY < score < _INFINITY else None for score in scores]
        labels: Sequence[str | int] = self.labels or range(len(plain))
        top = [
            {"label": labels[i], "score": plain[i]}
            for i in (best_first[: self.top_k] if self.top_k else range(len(plain)))
        ]
        if not best_first:
            return {"label": None, "score": None, "top": top}
        return {**self._entry(best_first[0], plain), "top": top}

    def _passes(self, score: Any) -> bool:
        return self.threshold is None or bool(score >= self.threshold)

    def _entry(self, index: int, plain: list[Any]) -> dict[str, Any]:
        return {"label": self.labels[index] if self.labels else index, "score": plain[index]}


def _best_first(scores: Array) -> list[int]:
    """Indexes of the numbers among the scores, best first; equal ones in their order."""
    keys = scores.astype(np.float64)
    order = np.argsort(-keys, kind="stable").tolist()
    return [index for index in order if keys[index] == keys[index]]  # NaN equals nothing
