"""curl, as a person at a shell would use it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.stand import serving

CURL = shutil.which("curl")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CURL is None, reason="curl is not installed")]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("curl")
    with serving(folder, f"path: {folder}/h"):
        yield folder / "h"


def curl(path: Path, target: str, *options: str, data: bytes | None = None) -> tuple[int, Any]:
    more = [] if data is None else ["--data-binary", "@-"]
    command = [str(CURL), "-sS", "--max-time", "30", "--unix-socket", str(path), *options, *more]
    done = subprocess.run(
        [*command, "-w", "\n%{http_code}", f"http://localhost{target}"],
        input=data, capture_output=True, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


FEATURES = {"name": "features", "datatype": "FP32"}
INFER = "/v2/models/sorter/infer"


def test_an_answer(path: Path) -> None:
    body = json.dumps({"inputs": [{**FEATURES, "shape": [1, 6], "data": [0, 1, 2, 3, 4, 5]}]})
    status, answer = curl(path, INFER, "-d", body)
    assert status == 200
    outputs = {one["name"]: one["data"] for one in json.loads(answer)["outputs"]}
    assert sum(outputs["probabilities"]) == pytest.approx(1)
    assert curl(path, "/v2/models/sorter/versions/2/infer", "-d", body) == (status, answer)


@pytest.mark.parametrize(
    "options",
    [
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue"],
        ["-H", "Expect:"],
        ["--http1.0"],
        ["--compressed"],
    ],
)
def test_large_bodies_in_every_way(path: Path, options: list[str]) -> None:
    rows = np.random.default_rng(0).normal(size=(60_000, 6)).astype(np.float32)
    text = json.dumps(
        {
            "inputs": [
                {**FEATURES, "shape": list(rows.shape),
                 "parameters": {"binary_data_size": rows.nbytes}}
            ],
            "outputs": [{"name": "label"}],
        }
    ).encode()  # fmt: skip
    header = f"Inference-Header-Content-Length: {len(text)}"
    status, answer = curl(path, INFER, *options, "-H", header, data=text + rows.tobytes())
    assert status == 200
    (label,) = json.loads(answer)["outputs"]
    assert len(label["data"]) == len(rows)
    assert len(set(label["data"])) == 3


def test_pages(path: Path) -> None:
    assert curl(path, "/v2/health/ready") == (200, b'{"live":true,"ready":true}')
    status, text = curl(path, "/metrics")
    assert status == 200
    assert b"edged_build_info" in text
    assert b'nv_inference_request_success{model="sorter",version="2"}' in text
    assert curl(path, "/v2/nothing")[0] == 404
    assert curl(path, "/v2/models/sorter", "-X", "DELETE")[0] == 405
