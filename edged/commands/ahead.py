"""``edged build`` and ``edged engines``: engines made ahead of time, and those that there are.

Works on the configuration, the bundle files and the state directory, whether a daemon runs or not;
one that runs is told, and swaps to what was built.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edged.client import Client
from edged.commands.rendering import table
from edged.config.engines import EnginesConfig
from edged.config.load import Snapshot, load
from edged.device.memory import half_of_memory
from edged.engine_house import FOLDER, this_host
from edged.engines.attempts import Attempt
from edged.engines.bench import EngineBench, Process, Task
from edged.engines.cache import EngineCache, Kept
from edged.engines.entry import entry_name
from edged.engines.sources import why_none, wishes
from edged.errors import (
    BuildError,
    EdgedError,
    IncompatibleError,
    InvalidRequestError,
    LoadError,
    ModelNotFoundError,
    NoDeviceError,
)
from edged.generation.trusted import load_trust
from edged.runtimes.engine import Host, differences
from edged.store.bundle import Bundle, open_bundle, stage_bundle
from edged.store.floors import Floors
from edged.store.stored import StoredRelease
from edged.store.targets import check_requires, check_targets, device_words

_LOOK_S = 0.5
"""How often a person sees what it is doing."""
Say = Callable[[str], None]


def build_ahead(
    config_path: Path,
    state_dir: Path,
    model: str,
    say: Say,
    *,
    precision: str = "",
    again: bool = False,
) -> None:
    """Build the engines of a model for this device.

    Args:
        config_path: edged.yaml or its directory.
        state_dir: of the daemon.
        model: NAME, or NAME@RELEASE.
        say: told of each step.
        precision: the only one; empty for what the model's section says.
        again: also those that are there already.

    Raises:
        ModelNotFoundError: no such model or release is configured.
        InvalidRequestError: its bundle has nothing to build from.
        NoDeviceError: no engine can run here.
        BuildError, GoldenMismatchError: none came of it, or a wrong one.
        BusyBenchError: another build is under way on this device.
    """
    snapshot = load(config_path)
    name, _, release = model.partition("@")
    if name not in snapshot.config.models:
        raise ModelNotFoundError(f'no model "{name[:64]}" is configured')
    config = snapshot.config.models[name]
    directory = state_dir / FOLDER
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    cache = EngineCache(directory, int(snapshot.config.engines.cache_size))
    with _unpacked(snapshot, state_dir, name, release) as stored:
        found = wishes(
            stored.manifest,
            stored.digest,
            precision or config.precision,
            config.batching.max_batch,
        )
        if not found:
            why = why_none(stored.manifest) or f"it has no {precision or config.precision} model"
            raise InvalidRequestError(f'model "{name}": {why}')
        try:
            host = this_host()
        except LoadError as exc:
            raise NoDeviceError(exc.message) from exc
        bench = EngineBench(directory, cache)
        for wish in found:
            task = Task(name, stored, wish)
            if not again and cache.find(wish.source, host).data is not None:
                say(f"{_what(task)}: there already")
                continue
            _build(bench, task, host, snapshot.config.engines, say)
    if "tensorrt" not in config.runtime and config.runtime != "auto":
        say(f"models.{name}.runtime does not list tensorrt: nothing will use it")
    say(_tell_daemon(snapshot))


def kept_engines(config_path: Path, state_dir: Path) -> list[dict[str, Any]]:
    """Every engine that is kept, for people and programs."""
    cap = int(load(config_path).config.engines.cache_size)
    try:
        host = this_host()
    except LoadError:
        host = None
    return [_entry(one, host) for one in EngineCache(state_dir / FOLDER, cap).entries()]


def render_engines(document: list[dict[str, Any]]) -> str:
    """``edged engines``."""
    if not document:
        return "no engine is kept"
    head = ("model", "precision", "bundle", "MiB", "TensorRT", "GPU", "last used", "fits")
    rows = [
        (
            one["model"], one["precision"], one["bundle"][:12], round(one["bytes"] / 2**20, 1),
            one["host"]["tensorrt"], one["host"]["gpu"], one["used_at"],
            "yes" if one["fits"] else f"no: {one['why_not'] or 'unknown'}",
        )
        for one in document
    ]  # fmt: skip
    return table(head, rows)


def _entry(one: Kept, host: Host | None) -> dict[str, Any]:
    record = one.record
    wrong = differences(record.host, host) if host is not None else ["no engine can run here"]
    used = dt.datetime.fromtimestamp(one.used_at, tz=dt.timezone.utc)
    return {
        "model": record.model,
        "precision": record.source.precision,
        "bundle": record.source.bundle,
        "bytes": one.size,
        "host": {name: getattr(record.host, name) for name in Host.__struct_fields__},
        "used_at": f"{used:%Y-%m-%d %H:%M} UTC",
        "fits": not wrong,
        "why_not": "; ".join(wrong),
    }


@contextlib.contextmanager
def _unpacked(
    snapshot: Snapshot, state_dir: Path, name: str, release: str
) -> Iterator[StoredRelease]:
    """The release of a model that serves, or the one that is named, out of its verified bundle."""
    trust, config = load_trust(snapshot, state_dir), snapshot.config.models[name]
    wanted = release or ("" if config.serve == "newest" else str(config.serve))
    wanted = str(config.aliases.get(wanted, wanted))
    with contextlib.ExitStack() as stack:
        opened: dict[int, Bundle] = {}
        for path in snapshot.bundle_paths(name):
            bundle = stack.enter_context(open_bundle(path))
            opened[bundle.manifest.release] = bundle
        if wanted and not (wanted.isdecimal() and int(wanted) in opened):
            have = ", ".join(map(str, sorted(opened))) or "none"
            raise ModelNotFoundError(f'model "{name}" has no release {wanted}; it has: {have}')
        if not opened:
            raise ModelNotFoundError(f'model "{name}": no bundle was found')
        bundle = opened[int(wanted) if wanted else max(opened)]
        if bundle.manifest.name != name:
            raise IncompatibleError(f'the bundle holds model "{bundle.manifest.name}"')
        trust.verify(bundle.manifest_bytes, bundle.signatures)
        check_requires(bundle.manifest)
        check_targets(bundle.manifest, device_words(snapshot.config.labels))
        Floors(state_dir).check(bundle.manifest, bundle.digest)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edged-build-")))
        stage_bundle(bundle, folder)
        yield StoredRelease(bundle.digest, bundle.manifest, folder)


def _build(bench: EngineBench, task: Task, host: Host, section: EnginesConfig, say: Say) -> None:
    name, precision = entry_name(task.wish.source, host), task.wish.entry.precision
    memory, timeout_s = int(section.memory or half_of_memory()), int(section.timeout) / 1e9
    with bench.held():
        before = bench.attempts.get(name)
        with contextlib.closing(bench.begin(task, memory)) as process:
            _watch(process, task, timeout_s, say)
            try:
                inside = bench.accept(task, process.result(precision), host)
            except EdgedError as exc:
                bench.attempts.note(name, Attempt(before.failures + 1, exc.message))
                raise
        bench.attempts.note(name, Attempt())
    say(f"{_what(task)}: ready, {inside.plan_bytes} bytes, built in {inside.seconds:.1f} s")


def _watch(process: Process, task: Task, timeout_s: float, say: Say) -> None:
    """Wait for the end, and tell what it is doing meanwhile."""
    over = threading.Event()

    def wait() -> None:
        process.wait()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    told, waited_s = "", 0.0
    while not over.wait(_LOOK_S):
        waited_s += _LOOK_S
        if process.step != told:
            told = process.step
            say(f"{_what(task)}: {told}")
        if waited_s >= timeout_s:
            process.kill()
            raise BuildError(f"it was not built within {timeout_s:g} s (engines.timeout)")


def _what(task: Task) -> str:
    precision = task.wish.entry.precision
    return f"{task.model} release {task.stored.manifest.release} in {precision}"


def _tell_daemon(snapshot: Snapshot) -> str:
    try:
        listen = snapshot.config.listen
        place = listen.admin or listen.socket
        with Client(place.path, timeout=10) as client:
            client.call("engines", look=True)
    except (EdgedError, OSError):
        return "no daemon was told; the next start finds it"
    return "the daemon was told, and swaps to what is new"


def as_json(document: list[dict[str, Any]]) -> str:
    """For programs."""
    return json.dumps(document, indent=2)
