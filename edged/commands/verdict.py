"""What would happen to a configuration, without a daemon: ``edged check`` and ``edged diff``.

Reads files and verifies signatures; changes nothing.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sized
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edged.access.policy import Peer
from edged.access.question import explain_access, group_words, peer_by_name
from edged.checks.chosen import chosen_lines
from edged.checks.sockets import socket_problems
from edged.checks.unmet import unmet_preferences
from edged.commands.change_costs import format_costs
from edged.config.broker_lines import config_of, line_of
from edged.config.desired import UNSIGNED
from edged.config.diff import diff, format_changes
from edged.config.documents import FOLDER
from edged.config.identity import base_topic
from edged.config.load import Snapshot, load, takes_documents
from edged.config.problems import ConfigProblemsError, Problem, field_path
from edged.config.snapshot import expiry_warnings
from edged.credential import is_open_to_all
from edged.errors import ApplyError, EdgedError, FieldError
from edged.generation.candidate import about_runtimes, inspect_bundles, inspect_pipelines
from edged.generation.record import HISTORY, find_state_dir, load_last_good
from edged.generation.table import NEEDS_RESTART
from edged.generation.trusted import trust_warnings
from edged.manifest import ManifestOf
from edged.protocol.mqtt import BaseTopics
from edged.transports.bindings.answers import AnswerWriter
from edged.transports.bindings.binding_set import prepare_bindings
from edged.transports.bindings.sizes import check_sizes

_OPEN = "every user of this device can read it; run: chmod o-r on it"


def problems_document(path: Path, problems: list[Problem], summary: str) -> dict[str, Any]:
    """What ``find_problems`` gave, for programs."""
    return {
        "config": str(path),
        "good": not problems,
        "problems": [problem._asdict() for problem in problems],
        "summary": [] if problems else summary.splitlines(),
    }


def find_problems(
    path: Path, *, with_files: bool, state_dir: Path | None = None, is_reload: bool = False
) -> tuple[list[Problem], str]:
    """Every problem of a configuration.

    Args:
        path: edged.yaml or its directory.
        with_files: also look at bundles, keys and what the bindings need of the models.
        state_dir: of the device; default: ``find_state_dir``.
        is_reload: only what a reload of what was applied last would refuse.

    Returns:
        The problems, and a summary for when there is none: a line, one for each model that
        this machine would not serve on the runtime it asks for first, and one for each release
        whose runtime it chooses.
    """
    try:
        snapshot = _with_document(load(path), path, state_dir)
    except ConfigProblemsError as exc:
        return list(exc.problems), ""
    config = snapshot.config
    summary = f"good: {_count(config.models, 'model')}, {_count(config.bindings, 'binding')}"
    if config.pipelines:
        summary += f", {_count(config.pipelines, 'pipeline')}"
    if not with_files:
        return about_runtimes(snapshot), f"{summary} (bundles and keys were not looked at)"
    state = state_dir or find_state_dir(path)
    if os.path.isfile(state):  # noqa: PTH113 - is_file raises where this user may not look
        text = f"{state} is a file, where the daemon's folder is expected"
        return [snapshot.problem("state_dir", text)], ""
    digests: dict[tuple[str, int], str] = {}
    manifests, problems = inspect_bundles(snapshot, digests, state)
    manifest_of, found = inspect_pipelines(snapshot, manifests)
    problems += found
    problems += _binding_problems(snapshot, manifest_of)
    problems += _feed_problems(snapshot, manifest_of)
    before = load_last_good(state).config.listen if is_reload else None
    problems += socket_problems(snapshot, state, before)
    warnings = [] if problems else unmet_preferences(snapshot, manifests)
    expiring = [
        *trust_warnings(snapshot, state),
        *expiry_warnings(snapshot, datetime.now(timezone.utc)),
        *_open_secrets(snapshot),
        *_source_warnings(snapshot),
        *snapshot.left_out,
        *_open_desired(snapshot),
    ]
    chosen = [] if problems else chosen_lines(config, manifests, digests, state)
    summary = "\n".join((summary, *(f"warning: {one}" for one in [*warnings, *expiring]), *chosen))
    return problems, summary


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _with_document(snapshot: Snapshot, path: Path, state_dir: Path | None) -> Snapshot:
    """With the document that came over MQTT, where one may and this user can read it."""
    if not takes_documents(snapshot):
        return snapshot
    return load(path, (state_dir or find_state_dir(path)) / FOLDER)


def _binding_problems(snapshot: Snapshot, manifest_of: ManifestOf) -> list[Problem]:
    topics = BaseTopics(base_topic(snapshot.config))
    problems = []
    for index, binding in enumerate(snapshot.config.bindings):
        # A model without a good bundle, and a `serve` or alias that names none, were said already.
        model, _, selector = binding.model.partition("@")
        if manifest_of(model, None if selector.isdecimal() else selector or None) is None:
            continue
        mqtt = config_of(snapshot.config, line_of(snapshot.config, binding)).mqtt
        try:
            prepare_bindings([binding], manifest_of, topics)
            if mqtt is not None:
                check_sizes([binding], manifest_of, mqtt)
        except FieldError as exc:
            path = exc.path.replace("bindings[0]", f"bindings[{index}]", 1)
            problems.append(snapshot.problem(path, exc.reason))
    return problems


def _feed_problems(snapshot: Snapshot, manifest_of: ManifestOf) -> list[Problem]:
    problems = []
    for name, model in snapshot.config.models.items():
        manifest = manifest_of(name, None)
        if model.publish is None or manifest is None:
            continue
        path = f"{field_path('models', name)}.publish"
        if manifest.makes_texts:
            text = f'model "{name}" makes texts, which are not published; remove it'
            problems.append(snapshot.problem(path, text))
            continue
        try:
            AnswerWriter(model.publish.output, manifest, wants_rows=False)
        except FieldError as exc:
            problems.append(snapshot.problem(f"{path}.{exc.path}", exc.reason))
    return problems


def _open_desired(snapshot: Snapshot) -> Iterator[Problem]:
    mqtt = snapshot.config.mqtt
    if mqtt is not None and mqtt.desired is not None and not mqtt.desired.keys:
        yield snapshot.problem("mqtt.desired", UNSIGNED)


def _open_secrets(snapshot: Snapshot) -> Iterator[Problem]:
    mqtt = snapshot.config.mqtt
    named = ((field_path("brokers", name), one) for name, one in snapshot.config.brokers.items())
    for path, broker in (("mqtt", mqtt), ("mqtt.results", mqtt and mqtt.results), *named):
        if broker is None or broker.password is None:
            continue
        if is_open_to_all(snapshot, broker.password):
            yield snapshot.problem(f"{path}.password.file", _OPEN)


def _source_warnings(snapshot: Snapshot) -> Iterator[Problem]:
    if snapshot.config.sources and importlib.util.find_spec("urllib3") is None:
        text = "nothing can be fetched: urllib3 is not installed; pip install 'edged[sources]'"
        yield snapshot.problem("sources", text)
    for name, source in snapshot.config.sources.items():
        for field in ("password", "token"):
            secret = getattr(source, field)
            if secret is not None and is_open_to_all(snapshot, secret):
                path = f"{field_path('sources', name)}.{field}.file"
                yield snapshot.problem(path, _OPEN)


def explain_config(
    path: Path, *, who: str | None, certificate: str, door: str, verb: str, model: str, service: str
) -> tuple[bool, str]:
    """What the rules of a configuration say to one question.

    Args:
        path: edged.yaml or its directory.
        who: a local user by name or number; None for somebody over TCP.
        certificate: the common name that one over TCP shows; empty for none.
        door: the kind of socket.
        verb: what is asked for.
        model: of which model; empty for none.
        service: the daemon's user, by name or number; empty for root.

    Returns:
        Whether it is allowed, and a line that says by what.

    Raises:
        EdgedError: the files are broken, or there is no such user.
    """
    snapshot = load(path)
    peer = Peer(door, certificate=certificate) if who is None else peer_by_name(who, door)
    owner = peer_by_name(service, door).uid if service else 0
    decision = explain_access(snapshot.config, peer, verb, model, owner)
    asker = peer.words + (f" (groups: {group_words(peer.gids)})" if peer.gids else "")
    what = f'{verb} of model "{model}"' if model else verb
    said = "allowed" if decision.is_allowed else "denied"
    place = f" at {snapshot.mark(decision.by)}" if decision.by.startswith("access.rules[") else ""
    return decision.is_allowed, f"{said}: {what} for {asker} on {door}: {decision.by}{place}"


def diff_config(path: Path, state_dir: Path | None) -> str:
    """What a reload would change against the configuration that was applied last, and its costs.

    Raises:
        ConfigProblemsError: the files are broken.
        ApplyError: nothing was applied yet.
    """
    snapshot = load(path)
    state = state_dir or find_state_dir(path)
    snapshot = _with_document(snapshot, path, state)
    try:
        applied = load_last_good(state)
    except (EdgedError, OSError) as exc:
        raise ApplyError(
            f"{state} holds no applied configuration yet; start the daemon first, or name its "
            "state directory with --state-dir"
        ) from exc
    found = diff(applied.config, snapshot.config)
    changes = format_changes(found, NEEDS_RESTART)
    costs = format_costs(applied, snapshot, state, state / HISTORY)
    if not (changes or costs):
        return ""
    said = costs or ["no load, no memory, no subscription"]
    if found and all(change.path in NEEDS_RESTART for change in found):
        said = ["nothing before a restart: systemctl restart edged"]
    return "\n".join([*filter(None, [changes]), "costs:", *(f"  {line}" for line in said)])
