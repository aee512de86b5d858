"""A service of BentoML that calls ONNX Runtime, in BentoML's environment."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime

IS_BATCHING = os.environ.get("PEER_BATCHING") == "yes"


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Tiny:
    """One session."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api(batchable=IS_BATCHING)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Answer some rows."""
        rows = np.asarray(x, np.float32)
        return self._session.run(["probabilities"], {"x": rows})[0]
