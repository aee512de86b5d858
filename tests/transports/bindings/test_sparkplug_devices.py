"""What a node shows of values that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from edged.protocol.sparkplug import DataType, Metric
from edged.transports.bindings.sparkplug_devices import Device, Known, fitting


@pytest.mark.parametrize("value", [None, "text", [1], float("inf")])
def test_values_that_have_no_such_type_are_null(value: Any) -> None:
    assert fitting(value, DataType.DOUBLE) in (None, float("inf"))


def test_metrics_have_their_names_at_birth_and_then_their_number_alone() -> None:
    device = Device({"b": {"b/x": Known(DataType.DOUBLE, 1.0, 7)}})
    assert device.metrics() == [Metric("b/x", DataType.DOUBLE, 1.0, 7)]
    assert device.metrics(["b/x"]) == [Metric(None, DataType.DOUBLE, 1.0, 7)]
    assert device.metrics([]) == []
    assert device.count() == 1
