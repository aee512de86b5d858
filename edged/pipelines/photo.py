"""A picture's file to its pixels: the step of a pipeline that whoever sends pixels leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edged.config.pipeline import PictureConfig
from edged.errors import FieldError
from edged.pipelines.step import Values, Work
from edged.tensors import TensorSpec


def picture_work(config: PictureConfig) -> Work:
    """Decode a PNG or JPEG.

    Raises:
        FieldError: Pillow is not installed.
    """
    from edged.processing import image  # noqa: PLC0415 - brings Pillow

    image.require_pillow("picture")

    def outputs(inputs: Mapping[str, TensorSpec]) -> Sequence[TensorSpec]:
        spec = inputs["from"]
        if spec.dtype != "uint8" or len(spec.shape) != 1:
            raise FieldError("picture.from", f"is {spec}; expected a file's bytes, uint8[bytes]")
        return [TensorSpec("pixels", "uint8", ("*height", "*width", 3))]

    def run(values: Values) -> Values:
        data = np.ascontiguousarray(values["from"])
        return {"pixels": image.decode_picture(data.tobytes())}

    return Work({"from": config.from_}, outputs, run, is_slow=True)
