"""From a recipe to a bundle, step by step: read, convert apart, clean, prove, pack.

Decides nothing by itself: each step is a file of its own and may refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from converters.baked.raw import Raw, prepare, take_edges
from converters.compose import MODEL, Packed, compose, pack_as_proven
from converters.contents import hash_sources
from converters.elements import is_special, is_text
from converters.errors import ConversionError
from converters.foreign import find_interpreter
from converters.gate.apart import prove_apart
from converters.gate.checks import Check
from converters.gate.prove import Proven, prove
from converters.lock import Lock
from converters.pack import pack
from converters.parity import OutputParity
from converters.paths import check_output, check_sources
from converters.precision.kept import kept_beside
from converters.recipe import Recipe, is_factory
from converters.registries.lookup import resolved
from converters.samples import (
    GENERATED_ROWS,
    UNNAMED,
    choose_rows,
    load_worded,
    pick_columns,
    take_truth,
)
from converters.sandbox import Converted, run_source
from converters.sources.base import SourceJob
from converters.sources.detect import Detected, detect
from converters.steps import Progress, Step, Steps
from converters.targets.environment import Ask, Mode, started
from converters.targets.table import find_target
from edged.errors import DeniedError
from edged.manifest import Manifest
from edged.specs import FeaturesInput
from edged.store.signing import Signer
from edged.tensors import Array

TRUTH = "/truth"
"""The right answers while rows are chosen: no input is called so."""
Words = dict[str, tuple[str, ...]]
"""By column, the words in which the table's numbers count."""
WORDED = "sklearn"
"""The source that knows what words are to a model."""
PLAIN = "onnx"
"""The source whose inputs and outputs may be strings or bfloat16."""

__all__ = ["MODEL", "Converted", "Report", "Step", "convert"]


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Args:
        path: the bundle.
        digest: sha256 of its manifest.
        manifest: what it promises.
        parity: the numbers, per output.
        isolation: how far the framework's process was cut off.
        warnings: what the framework had to say.
        is_signed: whether a key signed it.
        proven: the model with its samples and answers, for the report.
        steps: time and memory on this machine.
    """

    path: Path
    digest: str
    manifest: Manifest
    parity: tuple[OutputParity, ...]
    isolation: str
    warnings: tuple[str, ...]
    is_signed: bool
    proven: Proven
    steps: tuple[Step, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """What the gate looked at."""
        return tuple(self.proven.checks.done)


def convert(
    recipe: Recipe,
    output: Path | str,
    *,
    key: Path | str | None = None,
    trust: bool = False,
    empty_env: Mode = "auto",
    python: str | None = None,
    lock: Lock | None = None,
    progress: Progress = lambda _step: None,
) -> Report:
    """Make a bundle.

    Args:
        recipe: what to make; its source may be an artefact of a registry (``registries.lookup``).
        output: the ``.edgb`` file to write; replaced only when everything succeeded.
        key: a private key to sign with.
        trust: whether a source that runs code when it is opened may be opened.
        empty_env: whether the file must load in an empty environment of the target: ``auto`` where
            one can be had, ``require``, or ``off``.
        python: another interpreter that has the framework, for its process; over the recipe's.
        lock: the recipe's lock: what differs from it is refused.
        progress: called with each step's name.

    Raises:
        DeniedError: the source can run code, or the recipe names an interpreter, and ``trust`` is
            off; nothing was opened.
        UnsupportedModelError: the model holds something that a bundle cannot carry.
        ParityError: the converted numbers are not the framework's.
        NotFoundError: a registry does not have the source.
        ConversionError: anything else that the caller can put right.
    """
    with resolved(recipe, progress) as (local, notes):
        options = _Options(trust, empty_env, python or "", lock, progress)
        report = _convert(local, output, key, options)
    return replace(report, warnings=(*notes, *report.warnings))


@dataclass(frozen=True)
class _Options:
    """What the user grants and wants beside the recipe; as in ``convert``."""

    trust: bool
    empty_env: Mode
    python: str
    lock: Lock | None
    progress: Progress


def _convert(
    recipe: Recipe, output: Path | str, key: Path | str | None, options: _Options
) -> Report:
    """As ``convert``, for a source that is a file, a folder or a factory."""
    check_sources(recipe.files)
    check_output(Path(output), {**recipe.files, **({} if key is None else {"key": str(key)})})
    detected = _detect(recipe, trust=options.trust)
    python = _interpreter(recipe, options)
    # Read before anything slow, so that a wrong key is told at once.
    signer = None if key is None else Signer.from_file(key)
    steps = Steps(options.progress)
    keep = kept_beside(Path(output))
    with steps.step("reading samples"):
        samples, columns, truth, words = _read_samples(recipe)
        raw = _prepare(recipe, samples)
        contents = hash_sources(recipe)
        if options.lock is not None:
            options.lock.check(contents, {})
    with steps.step(f"converting with {detected.framework}"):
        job = _source_job(recipe, detected, samples, columns, words)
        converted = _run_source(job, samples, raw, recipe.timeout_s, python)
    if hash_sources(recipe) != contents:
        raise ConversionError("a source file changed while it was converted; start again")
    if options.lock is not None:
        options.lock.check(contents, converted.result.versions)
    with started(find_target(recipe.target), options.empty_env) as ask:
        with steps.step("proving rows and numbers"):
            proven = prove(recipe, converted, raw)
        with steps.step("making it int8") if "int8" in recipe.precision else nullcontext():
            packed = _choose(recipe, converted, proven, truth, contents, columns=columns, keep=keep)
        with steps.step("proving it in an empty environment"):
            _prove_apart(recipe, packed, proven, options.empty_env, ask)
    with steps.step("packing"):
        manifest, members = compose(
            recipe, converted, proven, packed, columns=columns, contents=contents
        )
        data = pack(Path(output), manifest, members, [] if signer is None else [signer])
        if "int8" in recipe.precision:
            with suppress(OSError):  # the bundle is whole
                keep.unlink()
        if options.lock is not None:
            options.lock.keep(contents, converted.result.versions)
    return Report(
        path=Path(output),
        digest=hashlib.sha256(data).hexdigest(),
        manifest=manifest,
        parity=proven.parity,
        isolation=converted.result.isolation,
        warnings=converted.result.warnings,
        is_signed=signer is not None,
        proven=proven,
        steps=tuple(steps.done),
    )


def _choose(
    recipe: Recipe,
    converted: Converted,
    proven: Proven,
    truth: Array | None,
    contents: dict[str, str],
    *,
    columns: tuple[str, ...],
    keep: Path,
) -> Packed:
    """What is packed: the proven model, or one of a lower precision that is made from it."""
    if "int8" not in recipe.precision:
        return pack_as_proven(recipe, proven)
    from converters.precision.both import pack_both  # noqa: PLC0415  (the quantiser takes 0.2 s)
    from converters.precision.lower import lower  # noqa: PLC0415

    make = lower if recipe.precision == "int8" else pack_both
    return make(recipe, converted, proven, truth, contents, columns=columns, keep=keep)


def _prove_apart(recipe: Recipe, packed: Packed, proven: Proven, mode: Mode, ask: Ask) -> None:
    """Run what is packed where the target would; each file in an environment of its own."""
    target = find_target(recipe.target)
    prove_apart(
        target,
        packed.data,
        packed.golden,
        tolerances=packed.tolerances,
        mode=mode,
        ask=ask,
        checks=proven.checks,
    )
    if packed.also is not None:
        with started(target, mode) as again:
            _prove_apart(recipe, packed.also, proven, mode, again)


def _detect(recipe: Recipe, *, trust: bool) -> Detected:
    detected = detect(recipe)
    if detected.runs_code and not trust:
        raise DeniedError(
            f"{detected.runs_code}: it was not opened. If you know where it comes from, say "
            "--trust; it then runs in a process of its own"
        )
    return detected


def _interpreter(recipe: Recipe, options: _Options) -> Path | None:
    """The interpreter of the framework's process; None for our own."""
    named = options.python or recipe.python
    if not named:
        return None
    if not options.python and not options.trust:
        raise DeniedError(
            f'the recipe names an interpreter ("{named}"), which is a program: it was not run. If '
            "you know it, say --trust, or name it with --python"
        )
    return find_interpreter(named)


def _source_job(
    recipe: Recipe,
    detected: Detected,
    samples: Mapping[str, Array],
    columns: tuple[str, ...],
    words: Words,
) -> SourceJob:
    """What the throw-away process is told: absolute paths, and nothing that it does not need."""
    if words and (detected.framework != WORDED or recipe.precision != "float32"):
        name, known = next(iter(words.items()))
        raise ConversionError(
            f'samples, column "{name}": "{known[0][:40]}" is not a number; words are taken for a '
            "scikit-learn model of float32 only, and as .npz for an .onnx file whose inputs are "
            "strings: else encode them before the model"
        )
    _refuse_special(detected.framework, samples)
    is_code = is_factory(recipe.source)
    return SourceJob(
        framework=detected.framework,
        source=recipe.source if is_code else str(Path(recipe.source).absolute()),
        weights=None if recipe.weights is None else str(Path(recipe.weights).absolute()),
        opset=recipe.opset,
        batch=recipe.batch,
        free_axes=recipe.free_axes,
        columns=columns,
        words=words,
        import_from=str(Path.cwd()) if detected.runs_code else "",
        cpu_seconds=recipe.timeout_s * 4,
        target=recipe.target,
        generate=0 if recipe.samples or recipe.batch == "none" else GENERATED_ROWS,
    )


def _refuse_special(framework: str, samples: Mapping[str, Array]) -> None:
    """Strings and bfloat16 go to the one source that runs them: the others know numbers."""
    special = next((name for name, array in samples.items() if is_special(array)), None)
    if special is None or framework == PLAIN:
        return
    kind = "text" if is_text(samples[special]) else "bfloat16"
    raise ConversionError(
        f'samples, array "{special}": {kind} is taken for ONNX files only, and a {framework} '
        "source takes numbers: encode it before the model"
    )


def _run_source(
    job: SourceJob,
    samples: dict[str, Array],
    raw: Raw | None,
    timeout_s: int,
    python: Path | None,
) -> Converted:
    if raw is None:
        return run_source(job, samples, timeout_s, python)
    try:
        return take_edges(run_source(job, raw.fed, timeout_s, python), raw)
    except ConversionError as exc:
        # What the model refuses is not what the user brought.
        raise type(exc)(f"{exc.message} ({raw.told()})") from exc


def _prepare(recipe: Recipe, samples: dict[str, Array]) -> Raw | None:
    """Raw pictures and what the framework gets of them, where pre-processing is baked in."""
    if not recipe.bake:
        return None
    return prepare(recipe.bake, samples, batch=recipe.batch, edges=recipe.edges == "auto")


def _read_samples(
    recipe: Recipe,
) -> tuple[dict[str, Array], tuple[str, ...], Array | None, Words]:
    """The rows, their columns, the right class of each where the recipe says it is there, words."""
    if not recipe.samples:
        return {}, (), None, {}
    samples, columns, words = load_worded(Path(recipe.samples))
    truth: dict[str, Array] = {}
    if recipe.truth:
        if recipe.truth in words:
            raise ConversionError(
                f'samples: "{recipe.truth}" expects one whole number a row (the class, from 0 on), '
                f'got "{words[recipe.truth][0][:40]}"'
            )
        samples, columns, truth[TRUTH] = take_truth(samples, columns, recipe.truth)
    wanted = recipe.input_processing.get("*")
    if columns and isinstance(wanted, FeaturesInput):
        places = pick_columns(columns, wanted.names)
        samples = {UNNAMED: samples[UNNAMED][:, list(places)]}
        columns = wanted.names
    words = {name: known for name, known in words.items() if name in columns}
    if recipe.batch == "rows":
        samples = choose_rows({**samples, **truth})
        if len(next(iter(samples.values()))) < 2:
            raise ConversionError("samples: one row proves nothing; bring at least 2, better 100")
        if truth:
            rest = {k: v for k, v in samples.items() if k != TRUTH}
            return rest, columns, samples[TRUTH], words
    return samples, columns, None, words
