"""TorchScript files (.pt): a program of its own, run by PyTorch's interpreter.

The exporter that PyTorch keeps refuses them; only the older one, marked for removal, takes them.
It writes opset 17. What it gives is held against the script's own numbers like everything else.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from converters.errors import ConversionError, UnsupportedModelError
from converters.sources.base import Exported, SourceJob, match_inputs
from converters.sources.torch import caller, finish, reference, settle
from converters.sources.torch_reasons import explain, first_lines
from edged.tensors import BATCH, Array

OPSET = 17
"""What the older exporter was made for; later ones are taken when asked, and read back."""

OLDER = (
    "TorchScript goes through PyTorch's older exporter, which is marked for removal: export the "
    "module with torch.export.save as .pt2 where you still have its code"
)


def export(job: SourceJob, samples: dict[str, Array]) -> Exported:
    """Load, call and convert a TorchScript file.

    Raises:
        UnsupportedModelError: an operator or output that cannot be converted.
        ConversionError: not such a file, or samples that do not fit.
    """
    settle()
    path = Path(job.source)
    try:
        module: Any = torch.jit.load(path, map_location="cpu")
    except Exception as exc:
        raise ConversionError(
            f'"{path.name}" is not a TorchScript file that torch {torch.__version__} opens: '
            f"{first_lines(exc)}; write it with the scripted module's save()"
        ) from exc
    module.eval()
    arguments = module.forward.schema.arguments[1:]
    names = [argument.name for argument in arguments if not argument.has_default_value()]
    inputs = {
        name: array.astype(np.float32) if array.dtype.kind == "f" else array
        for name, array in match_inputs(samples, names, "the script").items()
    }
    call = caller(lambda tensors: module(*tensors))
    outputs = reference(call, inputs, job.batch)
    proto = _to_onnx(module, inputs, list(outputs), job)
    exported = Exported(
        model=proto,
        inputs=inputs,
        outputs=outputs,
        framework={"torch": str(torch.__version__)},
        reference="the script's forward in eval mode",
        warnings=[OLDER],
        call=call,
    )
    return finish(exported, call)


def _to_onnx(
    module: Any, inputs: dict[str, Array], outputs: list[str], job: SourceJob
) -> onnx.ModelProto:
    rows = 2 if job.batch == "rows" else None
    example = tuple(torch.from_numpy(np.array(array[:rows])) for array in inputs.values())
    neutral_in = [f"edged_in{index}" for index in range(len(inputs))]
    neutral_out = [f"edged_out{index}" for index in range(len(outputs))]
    axes: dict[str, dict[int, str]] = {}
    if job.batch == "rows":
        axes = {name: {0: BATCH} for name in (*neutral_in, *neutral_out)}
    for neutral, name in zip(neutral_in, inputs, strict=True):
        axes.setdefault(neutral, {}).update(job.free_axes.get(name, {}))
    data = io.BytesIO()
    try:
        torch.onnx.export(
            module,
            example,
            data,
            dynamo=False,
            opset_version=job.opset or OPSET,
            input_names=neutral_in,
            output_names=neutral_out,
            dynamic_axes={name: free for name, free in axes.items() if free},
        )
    except Exception as exc:
        raise UnsupportedModelError(explain(exc, None, ())) from exc
    return onnx.load_from_string(data.getvalue())
