"""A whole Triton repository: bundles, a configuration that ``edged check`` takes, and a report.

Every model is accepted, accepted with differences, or refused with the reason; one that is refused
stops no other. The output folder appears when everything in it is whole.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from cryptography.hazmat.primitives import serialization

from converters.errors import ConversionError
from converters.registries.resolved import model_name
from converters.registries.triton_convert import Made, Options, convert_version
from converters.registries.triton_ensemble import read_steps
from converters.registries.triton_model import TritonModel, list_models, read_model
from converters.registries.triton_pipeline import pipeline_section
from converters.registries.triton_settings import Batching, edged_settings
from converters.show import Table
from edged.errors import EdgedError
from edged.manifest import Manifest
from edged.store.signing import Signer

Verdict = Literal["accepted", "accepted with differences", "refused"]
CONFIG = "edged.yaml"
REPORT = "import.json"
KEY = "keys/import.pub"
_HEAD = """\
# Made by edged-convert import from a Triton repository; see import.json for what differs.
# Check it with: edged check --config {name}
"""


@dataclass
class Outcome:
    """What became of one model."""

    name: str
    verdict: Verdict
    reason: str = ""
    differences: list[str] = field(default_factory=list)
    bundles: list[dict[str, Any]] = field(default_factory=list)
    section: dict[str, Any] = field(default_factory=dict)
    pipeline: dict[str, Any] = field(default_factory=dict)
    manifests: dict[int, Manifest] = field(default_factory=dict)


def import_repository(options: Options, output: Path) -> list[Outcome]:
    """Import every model of a repository.

    Args:
        options: the repository and what the user said; ``work`` is made here.
        output: the folder to make: ``bundles/``, ``edged.yaml``, ``import.json``.

    Returns:
        What became of each model, in name order.

    Raises:
        ConversionError: not a repository, or the output exists already or cannot be written.
    """
    names = list_models(options.repository)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConversionError(f'"{output}" exists already; name a new folder')
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as exc:
        raise ConversionError(f'"{output}": cannot be written: {exc.strerror}') from exc
    try:
        (draft / "bundles").mkdir()
        with tempfile.TemporaryDirectory(prefix="edged-triton-") as work:
            found = replace(options, work=Path(work))
            outcomes = [_import_model(name, found, draft) for name in names]
            # Last: they ask what the others have become.
            outcomes = [_or_pipeline(outcome, outcomes, found) for outcome in outcomes]
        _write(draft, outcomes, options, output.name)
        draft.chmod(0o755)
        draft.replace(output)
    except OSError as exc:
        raise ConversionError(f'"{output}": cannot be written: {exc.strerror}') from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return outcomes


def _import_model(name: str, options: Options, draft: Path) -> Outcome:
    options.progress(f"reading {name}")
    model: TritonModel | None = None
    made: list[Made] = []
    batching = Batching(0)
    try:
        model = read_model(options.repository, name)
        for version in model.versions:
            target = draft / "bundles" / f"{model_name(name)}-{version}.edgb"
            if target.exists():
                raise ConversionError(f'"{target.stem}" is the name of another model\'s bundle too')
            done, batching = convert_version(model, version, options, target)
            made.append(done)
    except EdgedError as exc:
        for bundle in made:
            bundle.report.path.unlink()
        return Outcome(name, "refused", exc.message, model.differences if model else [])
    section = edged_settings(model, batching)
    files = [f"bundles/{entry.report.path.name}" for entry in made]
    bundles = [
        {
            "version": entry.version,
            "file": file,
            "digest": entry.report.digest,
            "proven_on": entry.proven_on,
            "before": entry.before,
            "after": {
                kind: [
                    {"name": e.name, "dtype": e.dtype, "shape": list(e.shape)}
                    for e in getattr(entry.report.manifest, kind)
                ]
                for kind in ("inputs", "outputs")
            },
        }
        for entry, file in zip(made, files, strict=True)
    ]
    section = {"bundle": files[0] if len(files) == 1 else files, **section}
    differences = list(dict.fromkeys(model.differences))
    verdict: Verdict = "accepted with differences" if differences else "accepted"
    manifests = {entry.version: entry.report.manifest for entry in made}
    return Outcome(name, verdict, "", differences, bundles, section, manifests=manifests)


def _or_pipeline(outcome: Outcome, all_of_them: list[Outcome], options: Options) -> Outcome:
    """An ensemble that is no bundle as a pipeline of those that are."""
    if outcome.verdict != "refused":
        return outcome
    try:
        model = read_model(options.repository, outcome.name)
        steps = read_steps(model) if model.is_ensemble else []
    except EdgedError:
        return outcome
    if not steps:
        return outcome
    manifests = {model_name(one.name): one.manifests for one in all_of_them if one.manifests}
    try:
        section = pipeline_section(model, steps, manifests)
    except EdgedError as exc:
        outcome.reason += f"; nor can it be a pipeline: {exc.message}"
        return outcome
    names = ", ".join(step.model for step in steps)
    difference = (
        f"ensemble_scheduling: its steps ({names}) are a pipeline of the configuration, proven one "
        f"by one and not together; they cannot be one model: {outcome.reason}"
    )
    differences = [*dict.fromkeys([*model.differences, difference])]
    return Outcome(outcome.name, "accepted with differences", "", differences, pipeline=section)


def _write(draft: Path, outcomes: list[Outcome], options: Options, name: str) -> None:
    trust: dict[str, Any] = {"require_signatures": False}
    if options.key is not None:
        public = Signer.from_file(options.key).public_key
        (draft / KEY).parent.mkdir()
        (draft / KEY).write_bytes(
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        trust = {"keys": [KEY]}
    models = {model_name(entry.name): entry.section for entry in outcomes if entry.section}
    pipelines = {model_name(entry.name): entry.pipeline for entry in outcomes if entry.pipeline}
    config = {"trust": trust}
    config |= {"models": models} if models else {}
    config |= {"pipelines": pipelines} if pipelines else {}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, default_flow_style=None)
    (draft / CONFIG).write_text(_HEAD.format(name=f"{name}/{CONFIG}") + text, "utf-8")
    report = [
        {
            "model": entry.name,
            "verdict": entry.verdict,
            "reason": entry.reason,
            "differences": entry.differences,
            "bundles": entry.bundles,
            **({"pipeline": entry.pipeline} if entry.pipeline else {}),
        }
        for entry in outcomes
    ]
    (draft / REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def _where(entry: Outcome, bundle: dict[str, Any]) -> str:
    return entry.reason or bundle.get("file", f"a pipeline in {CONFIG}")


def describe(outcomes: list[Outcome]) -> list[Table]:
    """The report for people: one table of models, one of what differs."""
    rows = tuple(
        (entry.name, entry.verdict, _where(entry, bundle), bundle.get("proven_on", ""))
        for entry in outcomes
        for bundle in (entry.bundles or [{}])
    )
    differences = tuple((e.name, text) for e in outcomes for text in e.differences)
    tables = [Table("import", ("model", "verdict", "bundle or reason", "proven on"), rows)]
    if differences:
        tables.append(Table("what differs", ("model", "difference"), differences))
    return tables
