"""pytriton: the real Triton with the model in this process, in pytriton's environment."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
)


@batch
def infer(x: Any) -> list[Any]:
    """Answer what the dynamic batcher brought."""
    return session.run(["probabilities"], {"x": x})


config = TritonConfig(
    http_address="127.0.0.1",
    http_port=int(os.environ["PEER_HTTP"]),
    grpc_address="127.0.0.1",
    grpc_port=int(os.environ["PEER_GRPC"]),
    allow_metrics=False,
)
with Triton(config=config) as triton:
    triton.bind(
        model_name="tiny",
        infer_func=infer,
        inputs=[Tensor(name="x", dtype=np.float32, shape=(4,))],
        outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(3,))],
        config=ModelConfig(max_batch_size=16, batcher=DynamicBatcher()),
    )
    triton.serve()
