"""Saves an ONNX file as MLflow does, in MLflow's environment: mlflow_save.py MODEL FOLDER."""

from __future__ import annotations

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

model, folder = sys.argv[1:]
signature = ModelSignature(
    Schema([TensorSpec(np.dtype(np.float32), (-1, 4), "x")]),
    Schema([TensorSpec(np.dtype(np.float32), (-1, 3), "probabilities")]),
)
mlflow.onnx.save_model(
    onnx.load(model),
    folder,
    signature=signature,
    onnx_execution_providers=["CPUExecutionProvider"],
    onnx_session_options={"intra_op_num_threads": 1, "execution_mode": "sequential"},
)
