"""The command line's words. Runs nothing; what they come to is ``given``'s."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from converters.engines.words import add_flags as add_engine_flags
from converters.screen import shown
from converters.sources.kinds import BY_NAME
from converters.targets.table import TARGETS
from converters.texts.words import add_flags as add_text_flags
from converters.trust_flags import add_flags as add_trust_flags

PRECISIONS = ("float32", "float16", "int8", "float32,int8")
COMMANDS = (
    *("convert", "import", "promote", "keygen", "sign", "inspect", "verify", "report", "diff"),
    *("publish", "containerize", "batch", "build-engine", "texts", "trust"),
)


class _Parser(argparse.ArgumentParser):
    """Says words of the command line back as text: a file's name may hold terminal escapes."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


def build_parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    parser = _Parser(
        prog="edged-convert",
        description="Turn a trained model into a signed bundle whose numbers are proven.",
        epilog="The word convert may be left out: edged-convert model.onnx -o model-1.edgb ...",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    convert = commands.add_parser("convert", help="Make a bundle from a model.")
    _add_convert(convert)
    _add_surroundings(convert)
    _add_batch(commands.add_parser("batch", help="Make many bundles, several at a time."))
    _add_import(commands.add_parser("import", help="Make bundles of a Triton model repository."))
    promote = commands.add_parser("promote", help="Let an MLflow alias mean a proven version.")
    promote.add_argument("source", metavar="MODELS_URI", help="models:/NAME/VERSION or NAME@ALIAS")
    promote.add_argument("--alias", required=True, help="the alias to move")
    promote.add_argument("--store", metavar="STORE", help="as for convert")
    _add_keys(commands)
    inspect = commands.add_parser("inspect", help="Show what a bundle says of itself.")
    inspect.add_argument("bundle", metavar="BUNDLE", type=Path)
    verify = commands.add_parser("verify", help="Check signature, hashes and the model file.")
    verify.add_argument("bundle", metavar="BUNDLE", type=Path)
    _add_trust(verify)
    verify.add_argument(
        "--run", action="store_true", help="also run the golden samples on ONNX Runtime"
    )
    report = commands.add_parser("report", help="Write a bundle's report as a page to look at.")
    report.add_argument("bundle", metavar="BUNDLE", type=Path)
    report.add_argument(
        "-o", "--output", type=Path, metavar="HTML", help="default: BUNDLE.report.html beside it"
    )
    report.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    diff = commands.add_parser("diff", help="Hold two bundles against each other.")
    diff.add_argument("first", metavar="BUNDLE", type=Path)
    diff.add_argument("second", metavar="BUNDLE", type=Path)
    _add_publish(
        commands.add_parser("publish", help="Put a bundle where registries or web servers get it.")
    )
    _add_containerize(
        commands.add_parser(
            "containerize", help="Make a folder that builds a container which serves a bundle."
        )
    )
    add_engine_flags(
        commands.add_parser("build-engine", help="Add a TensorRT engine for this machine's GPU.")
    )
    texts = commands.add_parser("texts", help="Make a bundle of a folder of ONNX Runtime GenAI.")
    add_text_flags(texts)
    return parser


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument(
        "--oci", metavar="FOLDER[:TAG]", help="an OCI image layout; default tag NAME-RELEASE"
    )
    place.add_argument(
        "--mirror", metavar="FOLDER[:TAG]", help="a folder for any web server that devices ask"
    )
    parser.add_argument(
        "--base", metavar="FOLDER[:TAG]", help="the image to put it on, in a layout of its own"
    )
    _add_trust(parser)


def _add_keys(commands: Any) -> None:
    """Who signs: keys, signatures, and the document that says whose count."""
    keygen = commands.add_parser("keygen", help="Make a signing key: PREFIX.key and PREFIX.pub.")
    keygen.add_argument("prefix", metavar="PREFIX")
    add_trust_flags(
        commands.add_parser("trust", help="Make a trust document: who may sign bundles.")
    )
    sign = commands.add_parser("sign", help="Add a signature to a bundle or a trust document.")
    sign.add_argument("bundle", metavar="FILE", type=Path)
    sign.add_argument("--key", required=True, type=Path, help="the private key")


def _add_containerize(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path)
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the folder to make")
    add("--for", dest="target", choices=tuple(TARGETS), help="default: the bundle's own target")
    _add_trust(parser)


def _add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="PUB", help="a trusted public key"
    )
    parser.add_argument(
        "--threshold", type=_positive, default=1, metavar="M", help="so many of the keys must sign"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}": expected a whole number from 1')
    return int(text)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "model file or folder, registry URI, module:factory"
    add("source", metavar="SOURCE", nargs="?", help=text)
    add("-o", "--output", required=True, type=Path, metavar="FILE", help="the bundle to write")
    add("--recipe", type=Path, help="a YAML file with these settings; flags override it")
    add("--name", help="the model's name")
    add("--release", type=int, help="a number that rises with every bundle of that name")
    add("--only-for", action="append", metavar="WORD=A,B", help="which devices take the bundle")
    add("--floor", type=int, help="devices where this proved good accept no release below that")
    add("--version", help="a version for people (default: RELEASE.0.0)")
    add(
        "--samples",
        type=Path,
        help="real inputs: .npz (arrays by input name), .npy or .csv; without any, rows are made "
        "and the bundle counts as checked, not as verified",
    )
    add(
        "--no-report",
        dest="report",
        action="store_false",
        help="write no BUNDLE.report.json and .html beside the bundle",
    )
    add("--edges", choices=("auto", "none"), help="prove rows of zeros, extremes and NaN too")
    add(
        "--empty-env",
        choices=("auto", "require", "off"),
        default="auto",
        help="prove it in an empty environment of the target (kept in the cache; default auto)",
    )
    add("--kind", choices=tuple(BY_NAME), help="default: told from the file")
    add(
        "--for",
        dest="target",
        choices=tuple(TARGETS),
        help="the device: " + ", ".join(f"{t.name} ({t.title})" for t in TARGETS.values()),
    )
    add("--weights", type=Path, help="state dict for module:factory (.safetensors or .pt)")
    add("--trust", action="store_true", help="allow a source that runs code when opened")
    add("--key", type=Path, help="sign with this private key")
    add("--store", help="MLflow database, mlruns or http://SERVER; or BentoML's home")
    add("--record", action="store_true", help="write proof and digest to the MLflow version")
    add("--labels", metavar="A,B,C|@FILE", help="names of the first output's last axis")
    add("--features", metavar="A,B,C", help="the columns of the only input, in order")
    add(
        "--image",
        metavar="WxH,KEY=VALUE,...",
        help="the only input is a picture: mode=, layout=, resize=, scale=, mean=a/b/c, std=a/b/c",
    )
    add("--activation", choices=("none", "softmax", "sigmoid"), help="still to be applied")
    add("--input-name", metavar="A,B", help="new names for the first inputs")
    add("--output-name", metavar="A,B", help="new names for the first outputs")
    add("--opset", type=int, help="ONNX operator set (default 18; an .onnx file keeps its own)")
    add("--batch", choices=("rows", "none"), help="none: one call cannot be split into rows")
    add("--free-axes", metavar="INPUT:AXIS=NAME,...", help="further axes of any length")
    add("--rtol", type=float, help="allowed relative difference (default 1e-4)")
    add("--atol", type=float, help="allowed absolute difference (default 1e-5)")
    _add_precision(parser)


def _add_precision(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--precision",
        choices=PRECISIONS,
        metavar="PRECISION",
        help="float32; float16: for GPUs; int8: for CPUs, by calibration (and for TensorRT where "
        "the target has it); float32,int8: both in one bundle, of which a device takes the faster",
    )
    add(
        "--calibration",
        type=Path,
        metavar="PATH",
        help="real inputs that int8 is calibrated on: .npz, .npy, .csv, a folder of pictures, or "
        "recorded MQTT messages (.jsonl)",
    )
    add("--capture-topic", metavar="FILTER", help="the recorded messages that the model gets")
    add("--max-accuracy-drop", metavar="SHARE", help="what int8 may lose (default 0.5%%)")
    add("--truth", metavar="NAME", help="array or column of the samples with the right classes")


def _add_surroundings(parser: argparse.ArgumentParser) -> None:
    """What a conversion runs with, beside what it makes."""
    add = parser.add_argument
    add("--python", metavar="PROGRAM", help="the interpreter that has the framework (not edged)")
    add("--lock", action="store_true", help="write RECIPE.lock.json; one that is there must agree")
    add("--update-lock", action="store_true", help="replace what the lock says")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help="a YAML file of models and targets")
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="for the bundles")
    add("--jobs", type=_count, metavar="N", help="how many at a time (default 1)")
    add("--dask", metavar="ADDRESS", help="run on the workers of this Dask scheduler")
    add("--resume", action="store_true", help="leave out what is done, repeat what failed")
    add("--no-report", dest="report", action="store_false", help="as for convert")
    add("--empty-env", choices=("auto", "require", "off"), default="auto", help="as for convert")
    add("--trust", action="store_true", help="allow sources that run code when opened")
    add("--key", type=Path, help="sign with this private key")
    _add_surroundings(parser)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'"{text}": expected a whole number from 1')
    return int(text)


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("repository", metavar="REPOSITORY", type=Path, help="the folder of models")
    add("-o", "--output", required=True, type=Path, metavar="FOLDER", help="the folder to make")
    add("--samples", type=Path, metavar="FOLDER", help="real inputs: NAME.npz, .npy or .csv")
    add("--for", dest="target", choices=tuple(TARGETS), help="the device")
    add("--trust", action="store_true", help="allow models that run code when opened")
    add("--key", type=Path, help="sign with this private key; devices get its public key")
