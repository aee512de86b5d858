"""Bindings that put inputs together, held against a release."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.config.binding import BindingConfig
from edged.config.keyed import JoinConfig, WindowConfig
from edged.errors import FieldError
from edged.specs import Duration, FieldSpec
from edged.transports.bindings.fit import fit_join, fit_window
from tests.fakes.manifests import make_manifest


def config(**words: Any) -> BindingConfig:
    return BindingConfig(name="b", from_="in/{d}", model="m", **words)


def test_a_window() -> None:
    manifest = make_manifest([("x", "float32", ("batch", 4, 2))])
    wanted = config(fields=("a", "b"), window=WindowConfig(rows=4, gap=Duration(5)))
    codec, fit = fit_window(wanted, manifest)
    assert codec.choose(None).decode(b'{"a": 1, "b": 2}')["x"].tolist() == [[1, 2]]
    assert (fit.name, fit.whole, fit.rule.hop, fit.rule.gap_ns) == ("x", (1, 4, 2), 4, 5)
    raw, _ = fit_window(config(codec="raw", window=WindowConfig(rows=4)), manifest)
    assert raw.choose(None).decode(np.arange(6, dtype=np.float32).tobytes())["x"].shape == (3, 2)
    with pytest.raises(FieldError, match="fields"):
        fit_window(config(fields=("a",), window=WindowConfig(rows=4)), manifest)


def test_a_join() -> None:
    manifest = make_manifest([("x", "float32", ("batch", 3))])
    joins = (
        JoinConfig(from_="one", fields=(FieldSpec("c", 7.0),)),
        JoinConfig(from_="two", fields=("d",), max_age=Duration(9)),
    )
    codec, fit = fit_join(config(fields=("a",), join=joins), manifest)
    assert codec.choose(None).decode(b'{"a": 1}')["x"].tolist() == [[1]]
    assert fit.codecs[1].choose(None).decode(b'{"d": 2}')["x"].tolist() == [[2]]
    assert fit.defaults[0] is not None
    assert fit.defaults[0].tolist() == [7]
    assert fit.defaults[1] is None
    assert [rule.max_age_ns for rule in fit.rules] == [0, 9]
    with pytest.raises(FieldError, match="columns are 2"):
        fit_join(config(fields=("a",), join=joins[:1]), manifest)
