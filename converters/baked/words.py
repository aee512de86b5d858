"""What a recipe's ``bake`` says: how a raw picture becomes what the model was trained on.

Decides which words there are and which of them make no sense together. Computes nothing.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from converters.errors import ConversionError

Layout = Literal["NCHW", "NHWC"]
Length = Annotated[int, Meta(ge=1, le=16384)]
"""As a picture's sides in ``input_processing``."""
Fraction = Annotated[str, Meta(pattern=r"^[0-9]{1,9}/[0-9]{1,9}\Z")]
PICTURE_AXES = 4


class Resize(Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed size, whatever the picture's is.

    Bilinear between pixel centres (half-pixel, edges repeated), in float32 and not rounded to whole
    levels: ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``, and OpenCV's
    INTER_LINEAR on float pictures. With ``antialias`` a smaller picture is a weighted mean of all
    pixels it covers, as Pillow's BILINEAR and ``interpolate(antialias=True)`` do.
    """

    height: Length
    width: Length
    mode: Literal["bilinear"] = "bilinear"
    antialias: bool = False


class Bake(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The steps of one input, in this order: to float32, resize, ``(x * scale - mean) / std``.

    Args:
        layout: of the raw picture; decoders and cameras give NHWC.
        model_layout: of what the model takes.
        dtype: of the raw picture.
        resize: None leaves the size; the height and width of the bundle's input are then the
            model's, otherwise they are free.
        scale: a number, or a fraction such as ``1/255``.
        mean: one value, one a channel, or none.
        std: the same.
    """

    layout: Layout = "NHWC"
    model_layout: Layout = "NCHW"
    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    resize: Resize | None = None
    scale: float | Fraction = 1.0
    mean: Annotated[tuple[float, ...], Meta(max_length=64)] = ()
    std: Annotated[tuple[float, ...], Meta(max_length=64)] = ()

    @property
    def factor(self) -> float:
        """``scale`` as a number; a fraction of nothing is not finite."""
        if isinstance(self.scale, str):
            above, below = (int(part) for part in self.scale.split("/"))
            return above / below if below else math.inf
        return self.scale

    @property
    def channel_axis(self) -> int:
        """Of the raw picture."""
        return self.layout.index("C")

    def told(self) -> str:
        """The steps in words, for the report and the manifest."""
        steps = [f"{self.dtype} {self.layout} to float32"]
        if self.resize is not None:
            smooth = "antialiased" if self.resize.antialias else "not antialiased"
            size = f"{self.resize.height}x{self.resize.width}"
            steps.append(f"resize to {size} ({self.resize.mode}, half-pixel, {smooth})")
        if self.factor != 1:
            steps.append(f"times {self.scale}")
        if any(self.mean):
            steps.append(f"minus {_listed(self.mean)}")
        if any(value != 1 for value in self.std):
            steps.append(f"divided by {_listed(self.std)}")
        return ", ".join([*steps, f"to {self.model_layout}"])


def check_words(name: str, work: Bake, shape: tuple[int, ...]) -> None:
    """Refuse words that make no sense, or not for pictures of that shape.

    Args:
        name: the input, for messages.
        work: what the recipe says.
        shape: of the raw samples, rows first.

    Raises:
        ConversionError: names the input, what it is and what was expected.
    """
    if len(shape) != PICTURE_AXES:
        raise ConversionError(
            f'bake "{name}": the samples have {len(shape)} axes {list(shape)}; expected '
            f"{PICTURE_AXES}, {work.layout}: raw pictures, a row each"
        )
    channels = shape[work.channel_axis]
    for word, values in (("mean", work.mean), ("std", work.std)):
        if len(values) not in (0, 1, channels):
            raise ConversionError(
                f'bake "{name}": {word} has {len(values)} values; expected 1, or {channels} as the '
                f"samples have channels ({work.layout} {list(shape)})"
            )
        if not all(math.isfinite(value) for value in values):
            raise ConversionError(f'bake "{name}": {word} holds a value that is not finite')
    if not all(work.std):
        raise ConversionError(f'bake "{name}": std holds a zero, which nothing can be divided by')
    if not math.isfinite(work.factor) or work.factor == 0:
        raise ConversionError(
            f'bake "{name}": scale is {work.scale}; expected a number other than zero, or a '
            'fraction such as "1/255"'
        )


def _listed(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
