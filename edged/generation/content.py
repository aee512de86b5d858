"""What a configuration comes to, as one digest: its files and the contents of all that they name.

Decides when two configurations are the same, so that one that was rejected is known again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edged.config.load import Snapshot, full_digest
from edged.config.pipeline_files import step_files
from edged.errors import EdgedError
from edged.store.seen import SEEN

_KEY_CAP_BYTES = 64 << 10
_STEP_FILE_BYTES = 64 << 20
"""More than any step reads of its file."""


def content_digest(snapshot: Snapshot) -> str:
    """What a configuration comes to: its files, and every key, bundle and step's file they name.

    Values of secrets are in no digest: it is shown, and a short secret could be guessed from it.
    """
    if snapshot.kept is not None:
        return snapshot.kept.digest
    digest = hashlib.sha256(full_digest(snapshot, _fingerprint).encode())
    for key in snapshot.config.trust.files:
        try:
            with snapshot.resolve(key).open("rb") as file:
                data = file.read(_KEY_CAP_BYTES)
        except OSError:
            data = b"unreadable"
        digest.update(b"\0%d:%b" % (len(data), data))
    schemas = [one.schema.descriptors for one in snapshot.config.bindings if one.schema]
    for named in [*step_files(snapshot.config.pipelines), *schemas]:
        name = named.encode("utf-8", "surrogateescape")
        digest.update(b"\0%d:%b:%b" % (len(name), name, _content(snapshot.resolve(named))))
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    """A digest of a file; a step that cannot read it, or finds it too long, says so itself."""
    try:
        if not path.is_file():
            return b"no file"
        with path.open("rb") as file:
            return hashlib.sha256(file.read(_STEP_FILE_BYTES)).digest()
    except OSError:
        return b"unreadable"


def _fingerprint(path: Path) -> str:
    look = SEEN.known(path)
    if look is not None:
        return f"{look.size}:{look.digest}"
    size = path.stat().st_size
    try:
        return f"{size}:{SEEN.digest(path)}"
    except EdgedError as exc:
        return f"{size}:broken: {exc.message}"
