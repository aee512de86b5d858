"""KServe's own REST client, unchanged, over the Unix socket; run by a Python that has it installed.

python kserve_rest.py SOCKET
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferInput, InferRequest, InferResponse
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

BASE = "http://edged"
X = np.arange(12, dtype=np.float32).reshape(2, 6)


def request(name: str, array: Any, datatype: str, *, binary: bool, **more: Any) -> InferRequest:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest("", [tensor], **more)


async def main(path: str) -> None:
    config = RESTConfig(transport=httpx.AsyncHTTPTransport(uds=path), protocol="v2")
    client = InferenceRESTClient(config)
    assert await client.is_server_live(BASE)
    assert await client.is_server_ready(BASE)
    assert await client.is_model_ready(BASE, "sorter")
    assert not await client.is_model_ready(BASE, "nobody")
    answers = []
    for binary in (True, False):
        asked = request("features", X, "FP32", binary=binary)
        found = await client.infer(BASE, asked, model_name="sorter")
        assert isinstance(found, InferResponse)
        (output,) = [one for one in found.outputs if one.name == "probabilities"]
        answers.append(output.as_numpy())
    assert answers[0].shape == (2, 3)
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-6)
    wanted = [RequestedOutput("probabilities", parameters={"binary_data": True})]
    asked = request("features", X, "FP32", binary=True, request_outputs=wanted, request_id="mine")
    found = await client.infer(BASE, asked, model_name="sorter")
    assert found.id == "mine"
    np.testing.assert_array_equal(found.outputs[0].as_numpy(), answers[0])
    words = np.array([["a", "äö", ""]], object)
    for binary in (True, False):
        asked = request("x", words, "BYTES", binary=binary)
        found = await client.infer(BASE, asked, model_name="text")
        got = [
            one.decode() if isinstance(one, bytes) else one
            for one in found.outputs[0].as_numpy().flat
        ]
        assert got == words.reshape(-1).tolist(), got
    asked = request("features", X, "FP32", binary=True)
    refused = None
    try:
        await client.infer(BASE, asked, model_name="nobody")
    except httpx.HTTPStatusError as exc:
        refused = exc.response
    assert refused is not None
    assert refused.status_code == 404
    assert "Request for unknown model" in refused.text
    await client.close()


asyncio.run(main(sys.argv[1]))
