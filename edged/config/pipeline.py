"""What an operator writes about pipelines: a graph of models and steps, as frozen structs.

A step has a name and exactly one kind, which is the field that is set. Words only: what fits what
is ``edged.pipelines.plan``'s decision, which knows the models.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edged.config.cache import CacheConfig
from edged.config.pipeline_text import EndsConfig, LabelsConfig, TokensConfig
from edged.config.section import Axis, Path, Reference, Section
from edged.config.shapes import EachConfig, ReshapeConfig, TransposeConfig, WindowsConfig
from edged.config.sound import AudioConfig, MelConfig, ResampleConfig, SignalConfig
from edged.specs import Size

StepName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
TensorName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")]
Expression = Annotated[str, Meta(min_length=1, max_length=1000)]
Side = Annotated[int, Meta(ge=1, le=16384)]

KINDS = (
    "model", "compute", "select", "concat", "gather", "first", "image", "crop", "boxes", "regions",
    "ctc", "tokens", "labels", "ends", "signal", "picture", "audio", "resample", "mel", "windows",
    "transpose", "reshape", "each", "use",
)  # fmt: skip
"""The fields of which a step has exactly one."""


class SelectConfig(Section, frozen=True, kw_only=True):
    """A part of a tensor along one axis."""

    from_: Annotated[Reference, Meta(description="what to take it from")] = msgspec.field(
        name="from"
    )
    axis: Annotated[Axis, Meta(description="along which axis; 0 is the rows")] = -1
    at: Annotated[
        Annotated[int, Meta(ge=-(2**31), le=2**31)] | None,
        Meta(description="the one entry to take; the axis is gone then"),
    ] = None
    start: Annotated[int, Meta(ge=0, le=2**31, description="first entry to take")] = 0
    stop: Annotated[
        Annotated[int, Meta(ge=1, le=2**31)] | None,
        Meta(description="entry to stop before; default: all that follow"),
    ] = None
    reverse: Annotated[bool, Meta(description="in the opposite order")] = False


class ConcatConfig(Section, frozen=True, kw_only=True):
    """Several tensors as one, along one axis."""

    from_: Annotated[
        Annotated[tuple[Reference, ...], Meta(min_length=1, max_length=64)],
        Meta(description="what to join, in order"),
    ] = msgspec.field(name="from")
    axis: Annotated[Axis, Meta(description="along which axis")] = -1


class GatherConfig(Section, frozen=True, kw_only=True):
    """What was made for each item, as one tensor with a row for each."""

    from_: Annotated[Reference, Meta(description="what was made for each item")] = msgspec.field(
        name="from"
    )
    pad: Annotated[float, Meta(description="fills what shorter items leave free")] = 0.0


class PictureConfig(Section, frozen=True, kw_only=True):
    """A picture as it is in a file (PNG, JPEG), uint8[bytes], as pixels."""

    from_: Annotated[Reference, Meta(description="the file's bytes")] = msgspec.field(name="from")


class ImageConfig(Section, frozen=True, kw_only=True):
    """A picture in pixels, uint8[height,width,3], as a model wants it: one row of floats."""

    from_: Annotated[Reference, Meta(description="the picture")] = msgspec.field(name="from")
    resize: Annotated[
        Literal["none", "stretch", "letterbox", "corner", "fit", "multiple"],
        Meta(
            description="stretch: to width x height; letterbox: likewise, keep the shape, pad all "
            "around; corner: pad at the right and below; fit: to height, keep the shape, pad at "
            "the right; multiple: by min_side"
        ),
    ] = "none"
    width: Annotated[Side | None, Meta(description="in pixels; of fit: at most and exactly")] = None
    height: Annotated[Side | None, Meta(description="in pixels")] = None
    min_width: Annotated[Side, Meta(description="of fit without width: pad up to this")] = 1
    group: Annotated[
        int,
        Meta(
            ge=0,
            le=1024,
            description="of fit without width, for items: so many of similar shape "
            "are padded to one width, to share a run; 0 = each has its own",
        ),
    ] = 0
    min_side: Annotated[
        Side, Meta(description="of multiple: enlarge until the shorter side has this many pixels")
    ] = 32
    multiple: Annotated[Side, Meta(description="of multiple: what divides both sides then")] = 32
    pad: Annotated[float, Meta(description="value around the picture, after scale, mean, std")] = (
        0.0
    )
    swap: Annotated[bool, Meta(description="RGB becomes BGR and the other way round")] = False
    scale: Annotated[float, Meta(description="each pixel becomes (pixel * scale - mean) / std")] = (
        1.0
    )
    mean: Annotated[tuple[float, ...], Meta(description="none, one, or one a channel")] = ()
    std: Annotated[tuple[float, ...], Meta(description="none, one, or one a channel")] = ()
    layout: Annotated[Literal["NCHW", "NHWC"], Meta(description="of the tensor")] = "NCHW"


class CropConfig(Section, frozen=True, kw_only=True):
    """For each box what a picture shows in it; the steps that follow work on each."""

    from_: Annotated[Reference, Meta(description="the picture, uint8[height,width,3]")] = (
        msgspec.field(name="from")
    )
    boxes: Annotated[
        Reference,
        Meta(description="[n,4] corners x0 y0 x1 y1, or [n,4,2] corners clockwise, in pixels"),
    ]
    turn: Annotated[
        float, Meta(ge=0, description="turn a crop that is so much higher than wide; 0 = never")
    ] = 0.0


class BoxesConfig(Section, frozen=True, kw_only=True):
    """Candidates of a detector without those that overlap a better one (NMS)."""

    boxes: Annotated[Reference, Meta(description="[n,4] or [1,n,4]")]
    scores: Annotated[Reference, Meta(description="[n,classes], [n] or [1,n,classes]")]
    form: Annotated[
        Literal["corners", "corners_yx", "centre"],
        Meta(description="x0 y0 x1 y1; y0 x0 y1 x1; or centre x y, width, height"),
    ] = "corners"
    unit: Annotated[
        Literal["pixels", "shares"], Meta(description="of the boxes; shares of the picture's sides")
    ] = "pixels"
    grid: Annotated[
        tuple[Side, ...],
        Meta(max_length=8, description="boxes are cells of grids of these strides (YOLOX)"),
    ] = ()
    place: Annotated[
        Reference | None,
        Meta(description="STEP.place of the image that the detector saw: boxes in the picture"),
    ] = None
    threshold: Annotated[float, Meta(ge=0, le=1, description="leave out lower scores")] = 0.25
    overlap: Annotated[
        float, Meta(ge=0, le=1, description="leave out what overlaps a better one by more (IoU)")
    ] = 0.45
    each_class: Annotated[
        bool, Meta(description="hold only boxes of one class against each other")
    ] = True
    top: Annotated[int, Meta(ge=1, le=10000, description="most boxes to keep")] = 100


class RegionsConfig(Section, frozen=True, kw_only=True):
    """Boxes around what stands out in a map of probabilities, in reading order (text detectors)."""

    from_: Annotated[Reference, Meta(description="[height,width] or [1,1,height,width]")] = (
        msgspec.field(name="from")
    )
    picture: Annotated[Reference, Meta(description="the picture whose pixels the boxes are in")]
    threshold: Annotated[
        float, Meta(ge=0, le=1, description="what stands out: above this probability")
    ] = 0.3
    score: Annotated[float, Meta(ge=0, le=1, description="lowest mean within a box")] = 0.5
    grow: Annotated[
        float, Meta(ge=0, le=10, description="each side by area * grow / length of the edge")
    ] = 1.6
    min_side: Annotated[float, Meta(ge=0, description="leave out what is not wider, pixels")] = 3.0
    line: Annotated[
        float, Meta(ge=0, description="boxes whose tops differ by less are of one line, pixels")
    ] = 10.0
    top: Annotated[int, Meta(ge=1, le=10000, description="most areas to look at")] = 1000


class CtcConfig(Section, frozen=True, kw_only=True):
    """Text out of a recogniser's scores: best path, repeats and blanks left out."""

    from_: Annotated[Reference, Meta(description="scores [n,steps,classes]; class 0 is blank")] = (
        msgspec.field(name="from")
    )
    characters: Annotated[
        Path, Meta(description="UTF-8 file, one character a line, from class 1; relative path")
    ]
    space: Annotated[bool, Meta(description="one more class after the file's: a space")] = True


class StepConfig(Section, frozen=True, kw_only=True):
    """One step: a name, one kind, and when it is done."""

    name: Annotated[StepName, Meta(description="unique in the pipeline")]
    model: Annotated[str | None, Meta(description="NAME, NAME@RELEASE or NAME@ALIAS")] = None
    inputs: Annotated[
        Reference | dict[Annotated[str, Meta(min_length=1, max_length=256)], Reference],
        Meta(description="of model and use: input: reference; or the reference for the only one"),
    ] = msgspec.field(default_factory=dict)
    compute: Annotated[Expression | None, Meta(description="an expression, e.g. (x - 3.5) / 2")] = (
        None
    )
    select: SelectConfig | None = None
    concat: ConcatConfig | None = None
    gather: GatherConfig | None = None
    first: Annotated[
        tuple[Reference, ...],
        Meta(max_length=64, description="the first of these that was made; joins branches"),
    ] = ()
    image: ImageConfig | None = None
    crop: CropConfig | None = None
    boxes: BoxesConfig | None = None
    regions: RegionsConfig | None = None
    ctc: CtcConfig | None = None
    tokens: TokensConfig | None = None
    labels: LabelsConfig | None = None
    ends: EndsConfig | None = None
    signal: SignalConfig | None = None
    picture: PictureConfig | None = None
    audio: AudioConfig | None = None
    resample: ResampleConfig | None = None
    mel: MelConfig | None = None
    windows: WindowsConfig | None = None
    transpose: TransposeConfig | None = None
    reshape: ReshapeConfig | None = None
    each: EachConfig | None = None
    use: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")] | None,
        Meta(description="a step of an installed package (entry point edged.steps)"),
    ] = None
    options: Annotated[
        dict[str, bool | int | float | str], Meta(description="of use: passed to the package")
    ] = msgspec.field(default_factory=dict)
    when: Annotated[
        Expression | None,
        Meta(description="do it only when this is true, e.g. max(gate.score) >= 0.5"),
    ] = None
    default: Annotated[
        float | None, Meta(description="fills what a skipped step, or first of none, would make")
    ] = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are set; exactly one in a step that is right."""
        return tuple(kind for kind in KINDS if getattr(self, kind) not in (None, ()))


class PipelineConfig(Section, frozen=True, kw_only=True):
    """A graph of models and steps that is served as a model of its own."""

    release: Annotated[
        int, Meta(ge=1, le=2**53 - 1, description="its own release number, for clients")
    ] = 1
    inputs: Annotated[
        dict[TensorName, str],
        Meta(min_length=1, max_length=64, description="what it takes, e.g. x: float32[batch,4]"),
    ]
    steps: Annotated[
        tuple[StepConfig, ...],
        Meta(min_length=1, max_length=64, description="in any order; the data decides"),
    ]
    outputs: Annotated[
        dict[TensorName, Reference],
        Meta(min_length=1, max_length=64, description="what it gives: name: reference"),
    ]
    stream: Annotated[
        tuple[TensorName, ...],
        Meta(
            max_length=64,
            description="outputs of gather steps; who asks for several answers gets them for each "
            "item, as soon as it is made",
        ),
    ] = ()
    required: Annotated[bool, Meta(description="ready waits for this pipeline")] = True
    max_rows: Annotated[
        int, Meta(ge=1, le=10**6, description="rows in work at a time; more are refused")
    ] = 1024
    max_size: Annotated[Size, Meta(description="bytes of their inputs")] = Size(256 << 20)
    max_items: Annotated[
        int, Meta(ge=1, le=65536, description="items of one fan-out; more are an error")
    ] = 1024
    cache: CacheConfig | None = None
