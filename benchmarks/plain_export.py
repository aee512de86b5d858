"""What PyTorch alone needs to export the same network: the measure of the converter's gate.

``python -m benchmarks.plain_export FILE`` prints seconds of the export call, seconds of the whole
process and its peak memory, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time

BEGAN = time.perf_counter()


def main(file: str) -> None:
    import torch  # noqa: PLC0415  (its import is part of what is timed)

    from benchmarks.resnet import build  # noqa: PLC0415

    torch.set_num_threads(1)
    net = build()
    example = (torch.zeros(2, 3, 224, 224),)
    began = time.perf_counter()
    torch.onnx.export(
        net, example, file, dynamo=True, opset_version=18, external_data=False, verbose=False,
        dynamic_shapes=({0: "batch"},),
    )  # fmt: skip
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = {"export_s": ended - began, "process_s": ended - BEGAN, "peak_bytes": peak}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
