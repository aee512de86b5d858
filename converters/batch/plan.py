"""A batch file: models and targets in YAML, as jobs. Every problem is told with its line.

Opens no model and starts nothing; a batch file, like a recipe, cannot grant trust or name a key.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from converters.batch.job import Empty, Job, LockMode
from converters.contents import hash_path, hash_sources
from converters.errors import ConversionError
from converters.lock import lock_path
from converters.paths import check_plain
from converters.recipe import (
    PATHS,
    RECIPE_CAP_BYTES,
    Recipe,
    TargetName,
    is_factory,
    load_recipe_fields,
    make_recipe,
    place_paths,
)
from converters.registries.lookup import is_registry_source
from edged.config.convert import convert_struct
from edged.config.load import read_document
from edged.config.problems import Mark, Problem, problem_at
from edged.manifest import Release
from edged.store.signing import Signer
from edged.version import __version__


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model: a recipe, or the fields of one; what is said here wins over the recipe's.

    Args:
        recipe: a recipe file.
        targets: one bundle for each of these devices; none for the recipe's own.
        precisions: likewise, and each for each target.
        source: as in the recipe; so are the rest.
    """

    recipe: str = ""
    targets: tuple[TargetName, ...] = ()
    precisions: tuple[Literal["float32", "float16", "int8"], ...] = ()
    source: str | None = None
    samples: str | None = None
    name: str | None = None
    release: Release | None = None
    version: str | None = None
    kind: str | None = None
    weights: str | None = None
    calibration: str | None = None
    python: str | None = None


class Batch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    models: Annotated[tuple[Entry, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class Wish:
    """What the user says on the command line, for all jobs.

    Args:
        output: the folder of the bundles.
        key: a private key to sign with.
        trust: whether sources that run code may be opened.
        empty_env: as ``convert`` takes it.
        python: the interpreter for the frameworks.
        lock: write the locks of recipes that have none.
        update_lock: replace them.
        report: write reports beside the bundles.
    """

    output: Path
    key: Path | None = None
    trust: bool = False
    empty_env: Empty = "auto"
    python: str = ""
    lock: bool = False
    update_lock: bool = False
    report: bool = True


def read_batch(path: Path, wish: Wish) -> list[Job]:
    """Read a batch file into jobs, in its order.

    Raises:
        ConversionError: lists every problem of the file, a line each, with its place.
    """
    batch, marks, problems = _read(path)
    jobs: dict[str, Job] = {}
    signer = "" if wish.key is None else Signer.from_file(wish.key).key_id
    for index, entry in enumerate(batch.models if batch and not problems else ()):
        field = f"models[{index}]"
        mark = marks.get(field, Mark(str(path)))
        locks = lock_path(path.parent / entry.recipe).absolute() if entry.recipe else None
        try:
            for recipe, suffix in _recipes(path, entry):
                job = _job(recipe, suffix, locks, wish, signer)
                if job.name in jobs:
                    twice = (
                        f'makes "{job.name}", which an earlier model of this file makes too; give '
                        "it another name or release"
                    )
                    problems.append(problem_at(mark, field, twice))
                jobs[job.name] = job
        except ConversionError as exc:
            problems.append(problem_at(mark, field, exc.message))
    if problems:
        lines = [str(problem) for problem in problems]
        raise ConversionError("\n".join(lines), detail={"lines": lines})
    return list(jobs.values())


def _read(path: Path) -> tuple[Batch | None, dict[str, Mark], list[Problem]]:
    check_plain(path, "file")
    try:
        if path.stat().st_size > RECIPE_CAP_BYTES:
            raise ConversionError(f"{path}: over {RECIPE_CAP_BYTES} bytes; is this a batch?")
        data = path.read_bytes()
    except OSError as exc:
        raise ConversionError(f"{path}: {exc.strerror}") from exc
    document, problems = read_document(str(path), data)
    if document is None:
        return None, {}, problems
    batch, marks, found = convert_struct(document, Batch)
    return batch, marks, [*problems, *found]


def _recipes(path: Path, entry: Entry) -> Iterator[tuple[Recipe, str]]:
    """A recipe for each target and precision, and what its bundle's name ends in."""
    said = {
        name: value
        for name, value in msgspec.to_builtins(entry).items()
        if value is not None and name not in {"recipe", "targets", "precisions"}
    }
    place_paths(said, path.parent)
    fields = load_recipe_fields(path.parent / entry.recipe) if entry.recipe else {}
    fields.update(said)
    missing = [name for name in ("source", "name", "release") if name not in fields]
    if missing:
        raise ConversionError(f"needs {', '.join(missing)}, here or in a recipe")
    asked = {"target": entry.targets, "precision": entry.precisions}
    for name, words in asked.items():
        if len(set(words)) != len(words):
            raise ConversionError(f"names a {name} twice")
    named = {name: words for name, words in asked.items() if words}
    for chosen in itertools.product(*named.values()):
        own = {**fields, **dict(zip(named, chosen, strict=True))}
        yield make_recipe(own, entry.recipe or "model"), "".join(f"-{word}" for word in chosen)


def _job(recipe: Recipe, suffix: str, lock: Path | None, wish: Wish, signer: str) -> Job:
    name = f"{recipe.name}-{recipe.release}{suffix}.edgb"
    mode: LockMode = "update" if wish.update_lock else "write" if wish.lock else "check"
    return Job(
        name=name,
        output=str((wish.output / name).absolute()),
        recipe=_absolute(recipe),
        folder=str(Path.cwd()),
        python=wish.python,
        lock="" if lock is None else str(lock),
        # A lock that is there is held to; none is made unless it was asked for.
        lock_mode="" if lock is None or (mode == "check" and not lock.exists()) else mode,
        key="" if wish.key is None else str(wish.key.absolute()),
        trust=wish.trust,
        empty_env=wish.empty_env,
        report=wish.report,
        fingerprint=fingerprint(recipe, [signer, wish.python or recipe.python, wish.empty_env]),
    )


def fingerprint(recipe: Recipe, rest: list[str]) -> str:
    """Digest of what decides the bundle; empty where it cannot be told without opening something.

    Of ``module:factory`` the module's own file counts, not what it imports.
    """
    if is_registry_source(recipe.source):
        return ""  # an alias may mean another version by now
    try:
        contents = hash_sources(recipe)
        if is_factory(recipe.source):
            module = Path(*recipe.source.partition(":")[0].split("."))
            contents["source"] += hash_path(module.with_suffix(".py"))
    except (ConversionError, OSError):
        return ""  # the conversion will say what is missing
    text = json.dumps([__version__, recipe.digest(contents), *rest])
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _absolute(recipe: Recipe) -> Recipe:
    """The same recipe for a process that stands elsewhere."""
    paths = {
        name: str(Path(value).absolute())
        for name in PATHS
        if (value := getattr(recipe, name)) and Path(value).exists()
    }
    if "/" in recipe.python:
        paths["python"] = str(Path(recipe.python).absolute())
    return msgspec.structs.replace(recipe, **paths)
