"""Joins what devices say they sent with what the subscriber says it saw, id by id.

Decides what counts as agreement: exactly one result for an id, the framework's own label, and every
probability within TOLERANCE of the framework's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-5


class Reference:
    """What the framework itself says about each row of one release."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as saved:
            self.probabilities = saved["probabilities"]
            self.labels = [str(label) for label in saved["labels"]]


@dataclass
class ModelTally:
    """One model's numbers."""

    sent: int = 0
    answered: int = 0
    labels_equal: int = 0
    worst: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    releases: dict[int, int] = field(default_factory=dict)

    def percentile_ms(self, share: float) -> float | None:
        """Latency below which that share of results came, publish to result."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


class Tally:
    """All ids of the demo. Fed by reader threads."""

    def __init__(self) -> None:
        self.models: dict[str, ModelTally] = {}
        self.references: dict[tuple[str, int], Reference] = {}
        self.problems: list[str] = []
        self.generations: dict[int, int] = {}
        self.is_subscribed = False
        self._sent: dict[str, dict[str, Any]] = {}
        self._results: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def add_model(self, model: str, release: int, path: Path) -> None:
        """Load the reference of one release."""
        self.references[model, release] = Reference(path)
        self.models.setdefault(model, ModelTally())

    def on_sent(self, line: dict[str, Any]) -> None:
        """One line of devices.py."""
        with self._lock:
            self._sent[line["id"]] = line
            self.models[line["id"].partition("/")[0]].sent += 1
            self._join(line["id"], line, self._results.get(line["id"], [None])[0])

    def on_result(self, line: dict[str, Any]) -> None:
        """One line of counter.py."""
        if "subscribed" in line:
            self.is_subscribed = True
            return
        with self._lock:
            results = self._results.setdefault(line["id"], [])
            results.append(line)
            if len(results) > 1:
                self.problems.append(f"{line['id']}: {len(results)} results")
                return
            self._join(line["id"], self._sent.get(line["id"]), line)

    @property
    def missing(self) -> list[str]:
        """Ids that were published and have no result yet."""
        with self._lock:
            return [number for number in self._sent if number not in self._results]

    @property
    def strangers(self) -> list[str]:
        """Ids of results that nobody published."""
        with self._lock:
            return [number for number in self._results if number not in self._sent]

    def _join(self, number: str, sent: dict[str, Any] | None, got: dict[str, Any] | None) -> None:
        if sent is None or got is None:
            return
        name = number.partition("/")[0]
        model, payload = self.models[name], got["payload"]
        model.answered += 1
        if not isinstance(payload, dict) or "top" not in payload:
            self.problems.append(f"{number}: {got['topic']}: {payload}")
            return
        model.latencies_ms.append((got["received_ns"] - sent["sent_ns"]) / 1e6)
        self._count(model, got)
        reference = self.references[name, release_of(got)]
        expected = reference.probabilities[sent["row"]]
        scores = {str(entry["label"]): entry["score"] for entry in payload["top"]}
        differences = [
            abs(scores.get(label, -1.0) - wanted)
            for label, wanted in zip(reference.labels, expected, strict=True)
        ]
        model.worst = max(model.worst, *differences)
        if str(payload["label"]) == reference.labels[int(expected.argmax())]:
            model.labels_equal += 1
        else:
            self.problems.append(f"{number}: label {payload['label']}")

    def _count(self, model: ModelTally, got: dict[str, Any]) -> None:
        release, generation = release_of(got), generation_of(got)
        model.releases[release] = model.releases.get(release, 0) + 1
        self.generations[generation] = self.generations.get(generation, 0) + 1


def release_of(result: dict[str, Any]) -> int:
    """Which release answered."""
    return int(result["properties"]["edged-release"])


def generation_of(result: dict[str, Any]) -> int:
    """Under which configuration generation."""
    return int(result["properties"]["edged-generation"])
