"""A bare grpcio server: a generic handler on bytes that only runs the model.

No message is read: the tensor is the end of the request, and the answer is one that was made
before, with other numbers at its end.
"""

from __future__ import annotations

import os
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2


class Handler(grpc.GenericRpcHandler):
    """Answers ModelInfer and nothing else."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        answer = service_pb2.ModelInferResponse(model_name="tiny", model_version="1")
        answer.outputs.add(name="probabilities", datatype="FP32", shape=[1, 3])
        answer.raw_output_contents.append(bytes(12))
        self._begin = answer.SerializeToString()[:-12]

    def service(self, details: Any) -> Any:
        """The handler of a call."""
        if not details.method.endswith("/ModelInfer"):
            return None
        return grpc.unary_unary_rpc_method_handler(self._infer)

    def _infer(self, message: bytes, _context: Any) -> bytes:
        x = np.frombuffer(message, np.float32, 4, len(message) - 16).reshape(1, 4)
        (values,) = self._session.run(["probabilities"], {"x": x})
        return self._begin + values.tobytes()


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PEER_GRPC']}")
    server.start()
    server.wait_for_termination()
