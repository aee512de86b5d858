"""Which files beside its own a configuration goes by: a change of one of them is a change of it."""

from __future__ import annotations

from pathlib import Path

from edged.config.broker_lines import files_of_brokers
from edged.config.desired import version_of
from edged.config.load import Snapshot
from edged.config.pipeline_files import step_files
from edged.config.tls_files import TLS_FILES, tls_sections
from edged.store.trust_state import TrustState


def followed_paths(snapshot: Snapshot, state_dir: Path) -> list[Path]:
    """What a configuration names, as absolute paths or patterns of bundles."""
    config = snapshot.config
    named = [pattern for model in config.models.values() for pattern in model.bundles]
    named += [*config.trust.files, *step_files(config.pipelines)]
    for _, own in tls_sections(config.listen):
        named += [getattr(own, name) for name in TLS_FILES]
    named += [one.schema.descriptors for one in config.bindings if one.schema is not None]
    named += [file for _, file in files_of_brokers(config)]
    named += [name for name in snapshot.files if version_of(name)]
    paths = [snapshot.resolve(path) for path in named]
    if config.trust.root is not None:
        paths += TrustState(state_dir).copies
    return paths
