"""LitServe around ONNX Runtime, in LitServe's environment.

Its annotations are real ones: LitServe reads them to know what a request is.
"""

import os
from typing import Any

import litserve
import numpy as np
import onnxruntime

BATCH = int(os.environ.get("PEER_BATCH", "1"))


class Tiny(litserve.LitAPI):
    """One session in one worker."""

    def setup(self, device: str) -> None:
        """Open the session; there is only the CPU."""
        del device
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> Any:
        """The rows of one request."""
        return np.asarray(request["x"], np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """The rows of many."""
        return np.concatenate(inputs)

    def predict(self, x: Any) -> Any:
        """Answer some rows."""
        return self._session.run(["probabilities"], {"x": x})[0]

    def unbatch(self, output: Any) -> list[Any]:
        """A row to each."""
        return list(output[:, None])

    def encode_response(self, output: Any) -> dict[str, Any]:
        """What is sent."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    api = Tiny(max_batch_size=BATCH, batch_timeout=0.0)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ.get("PEER_FAST") == "yes",
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_HTTP"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
    )
