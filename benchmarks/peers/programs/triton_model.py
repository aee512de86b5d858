"""A model of Triton's Python backend that calls ONNX Runtime; Triton's stub imports it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    """One session."""

    def initialize(self, _args: dict[str, str]) -> None:
        """Open the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer what the dynamic batcher brought, in one run."""
        rows = [backend.get_input_tensor_by_name(one, "x").as_numpy() for one in requests]
        together = rows[0] if len(rows) == 1 else np.concatenate(rows)
        (values,) = self._session.run(["probabilities"], {"x": together})
        answers, at = [], 0
        for row in rows:
            part = backend.Tensor("probabilities", values[at : at + len(row)])
            answers.append(backend.InferenceResponse([part]))
            at += len(row)
        return answers
