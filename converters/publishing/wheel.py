"""The daemon as it is installed here, as a wheel: a container gets the very code that was tried.

Only ``edged`` goes in; a device has no use for the converter. Source: the wheel format (PEP 427)
and the recording of installed files (PEP 376).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import edged
from converters.errors import ConversionError
from converters.pack import ZIP_DATE
from edged.version import __version__

WHEEL_NAME = f"edged-{__version__}-py3-none-any.whl"


def make_wheel(extras: Sequence[str]) -> bytes:
    """The wheel's bytes: the same ones for the same sources.

    Args:
        extras: of the daemon, that it shall offer.

    Raises:
        ConversionError: the daemon does not lie here as files.
    """
    root = Path(edged.__file__).parent
    sources = sorted(path for path in root.rglob("*") if path.suffix == ".py")
    if root / "daemon.py" not in sources:
        raise ConversionError(f"edged does not lie in {root} as files; install it with pip")
    files = {f"edged/{p.relative_to(root).as_posix()}": p.read_bytes() for p in sources}
    info = f"edged-{__version__}.dist-info"
    files[f"{info}/METADATA"] = _metadata(extras).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: edged-convert\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nedged = edged.cli:main\n"
    record = "".join(f"{name},{_hash(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data)
    return stream.getvalue()


def _metadata(extras: Sequence[str]) -> str:
    installed = importlib.metadata.metadata("edged")
    lines = ["Metadata-Version: 2.1", "Name: edged", f"Version: {__version__}"]
    lines += [f"Requires-Python: {installed['Requires-Python']}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    for requirement in installed.get_all("Requires-Dist") or []:
        _, has_extra, extra = requirement.partition("extra ==")
        if not has_extra or extra.strip().strip("\"')") in extras:
            lines.append(f"Requires-Dist: {requirement}")
    return "\n".join(lines) + "\n"


def _hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest}"
