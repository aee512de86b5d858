"""A model whose weights lie in a file beside it, from bundle to answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edged.errors import ModelNotReadyError
from tests.bundles import make_bundle
from tests.e2e.process import running
from tests.models import with_external_data


def test_weights_beside_the_model_are_served(tmp_path: Path) -> None:
    model, sidecars = with_external_data()
    extra = {name: ("onnx-data", data) for name, data in sidecars.items()}
    make_bundle(tmp_path / "m-1.edgb", model, name="m", release=1, extra=extra)
    body = "trust: {require_signatures: false}\nmodels:\n  m: {bundle: m-1.edgb}\n"
    inputs, expected = model.golden(3)
    with running(tmp_path, body) as daemon, daemon.client() as client:
        if onnxruntime.__version__.startswith("1.23."):
            with pytest.raises(ModelNotReadyError, match="convert it into one file"):
                client.infer("m", inputs)
            return
        result = client.infer("m", inputs)
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, rtol=1e-4, atol=1e-5)
