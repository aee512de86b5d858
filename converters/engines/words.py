"""``build-engine`` on the command line: its flags, how they become a wish, and what is said after.

The names are those of trtexec and Polygraphy where these have one. Imports nothing heavy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import ConversionError

if TYPE_CHECKING:
    from converters.engines.build import Outcome, Wish

HARDWARE = ("none", "ampere_plus", "same_compute_capability")
LEVELS = 5
"""TensorRT's highest level of optimisation; 3 is its own default."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Everything that ``build-engine`` takes."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path)
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="the bundle to write")
    add("--precision", choices=("float32", "float16", "int8"), help="which of the bundle's models")
    add("--max-batch", type=_count, default=8, metavar="ROWS", help="of one run (default 8)")
    add("--opt-batch", type=_count, metavar="ROWS", help="to tune for (default: the largest)")
    add(
        "--exact-batch",
        dest="exact",
        type=_count,
        action="append",
        default=[],
        metavar="ROWS",
        help="also tune for just so many rows; may be given several times",
    )
    add("--axes", metavar="NAME=MIN:OPT:MAX,...", help="lengths of further free axes")
    add("--workspace", type=_count, default=1024, metavar="MIB", help="of the GPU (default 1024)")
    add(
        "--builder-optimization-level",
        dest="level",
        type=int,
        choices=range(LEVELS + 1),
        default=3,
        help="how long to search (default 3)",
    )
    add("--version-compatible", action="store_true", help="later TensorRTs may run it, slower")
    add(
        "--hardware-compatibility-level",
        dest="hardware",
        choices=HARDWARE,
        default="none",
        help="more kinds of GPU may run it, slower",
    )
    add(
        "--dla",
        type=int,
        default=-1,
        metavar="CORE",
        help="place it on that core of a Jetson's accelerator as far as it can",
    )
    add("--tf32", action="store_true", help="round float32 to ten bits where that is faster")
    add("--timing-cache", type=Path, metavar="FILE", help="kept from build to build (your cache)")
    add("--device", type=int, default=0, metavar="N", help="which GPU, as CUDA counts")
    add("--memory", type=_count, metavar="MIB", help="most memory of the building process")
    add("--timeout", type=_count, default=3600, metavar="S", help="longest build (default 3600)")
    add("--release", type=_count, metavar="N", help="the new bundle's number (default: the same)")
    add("--key", type=Path, help="sign with this private key")


def wish_from(args: argparse.Namespace) -> Wish:
    """What the flags ask for.

    Raises:
        ConversionError: ``--axes`` is malformed.
    """
    from converters.engines.build import Wish  # noqa: PLC0415  (numpy, msgspec)
    from edged.runtimes.engine import BuildOptions  # noqa: PLC0415

    options = BuildOptions(
        max_batch=args.max_batch,
        usual_batch=args.opt_batch or 0,
        axes=parse_axes(args.axes or ""),
        workspace_bytes=args.workspace << 20,
        level=args.level,
        is_version_compatible=args.version_compatible,
        hardware=args.hardware,
        tf32=args.tf32,
        exact=tuple(args.exact),
        dla=args.dla,
    )
    return Wish(
        precision=args.precision or "",
        options=options,
        device=args.device,
        memory_mib=args.memory or 0,
        timeout_s=args.timeout,
        timing_cache=args.timing_cache,
        release=args.release or 0,
    )


def parse_axes(text: str) -> dict[str, tuple[int, int, int]]:
    """``height=64:224:512,width=64:224:512`` as shortest, usual and longest by name.

    Raises:
        ConversionError: malformed; says the expected form.
    """
    axes = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, lengths = word.partition("=")
        numbers = lengths.split(":")
        if not name or len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
            raise ConversionError(f'--axes "{word}": expected NAME=MIN:OPT:MAX, as time=1:64:256')
        low, usual, high = (int(n) for n in numbers)
        if not 1 <= low <= usual <= high:
            raise ConversionError(f'--axes "{word}": expected 1 <= MIN <= OPT <= MAX')
        axes[name] = (low, usual, high)
    return axes


def describe(outcome: Outcome, output: Path) -> list[str]:
    """What was written, a line each."""
    one = outcome.fingerprint
    host = one.host
    built = ", ".join(f"{count} {kind}" for kind, count in one.built.items())
    parity = ", ".join(f'"{name}" {gap:.2g}' for name, gap in one.parity.items())
    where = f"{host.gpu} (compute capability {host.compute_capability})"
    placed = [f"{count} layers on the {place}" for place, count in one.placed.items()]
    signed = "signed" if outcome.is_signed else "unsigned: edged-convert sign, off the device"
    return [
        f"{output}: {outcome.file}, {one.plan_bytes} bytes, in {one.seconds:.1f} s ({signed})",
        f"runs on: {where}, {host.product} {host.tensorrt}, {host.system}",
        f"layers: {built}",
        *([f"placed: {', '.join(placed)}"] if placed else []),
        f"largest difference from the golden rows: {parity}",
        f"digest: {outcome.digest}",
        f"timings of the builder: {outcome.timing_cache}",
    ]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}": expected a whole number from 1')
    return int(text)
