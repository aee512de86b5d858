"""KServe's model server around ONNX Runtime, in KServe's environment."""

from __future__ import annotations

import os

import onnxruntime
import uvicorn
from grpc import aio
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Tiny(Model):
    """One session, asked on the event loop: a call is shorter than a change of threads."""

    def load(self) -> bool:
        """Open the session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.ready = True
        return self.ready

    async def predict(
        self, payload: InferRequest, headers: object = None, response_headers: object = None
    ) -> InferResponse:
        """Answer one request."""
        del headers, response_headers
        x = payload.get_input_by_name("x").as_numpy()
        (values,) = self._session.run(["probabilities"], {"x": x})
        output = InferOutput("probabilities", list(values.shape), "FP32")
        # As it was asked: bytes over gRPC, numbers in JSON over HTTP.
        output.set_data_from_numpy(values, binary_data=payload.from_grpc)
        return InferResponse(payload.id, self.name, [output])


def keep_to_this_machine() -> None:
    """It listens on every address and has no option for that."""

    def config(*args: object, **options: object) -> None:
        prepared(*args, **(options | {"host": "127.0.0.1"}))

    def server(*args: object, **options: object) -> object:
        made = opened(*args, **options)
        add = made.add_insecure_port
        made.add_insecure_port = lambda place: add(place.replace("[::]", "127.0.0.1"))
        return made

    prepared, uvicorn.Config.__init__ = uvicorn.Config.__init__, config
    opened, aio.server = aio.server, server


if __name__ == "__main__":
    keep_to_this_machine()
    model = Tiny("tiny")
    model.load()
    ModelServer(
        http_port=int(os.environ["PEER_HTTP"]),
        grpc_port=int(os.environ["PEER_GRPC"]),
        workers=1,
        access_log_format=None,
        enable_latency_logging=False,
    ).start([model])
