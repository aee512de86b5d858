"""Another interpreter for the framework's process: one that has the framework, but not edged.

Decides whether it can run our code: a Python that we support, and the packages that the throw-away
process imports. Our own code is lent to it, none of our packages.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

import converters
import edged
from converters.errors import ConversionError

PYTHONS = ((3, 10), (3, 13))
"""As ``requires-python`` and the classifiers in pyproject.toml say."""
NEEDED: dict[str, tuple[str, str, str]] = {
    "numpy": ("numpy", "1.26", "2.6"),
    "msgspec": ("msgspec", "0.19", "0.23"),
    "onnx": ("onnx", "1.19", "1.24"),
    "google.protobuf": ("protobuf", "6.31.1", "7"),
}
"""By module: the package and its bounds, as in pyproject.toml; a test holds the two together."""
TIMEOUT_S = 60
"""For a question that takes a tenth of a second; a cold network disk may need longer."""

# Old enough words for any Python that somebody may name; imports nothing that is asked for.
_QUESTION = """
import json, sys
found = {}
if sys.version_info >= (3, 8):
    from importlib.metadata import PackageNotFoundError, version
    for name in sys.argv[1:]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
print(json.dumps({"python": list(sys.version_info[:2]), "packages": found}))
"""


class _Answer(msgspec.Struct):
    python: tuple[int, int]
    packages: dict[str, str]


def find_interpreter(text: str) -> Path:
    """A path, or a program's name that PATH knows.

    Raises:
        ConversionError: there is no such program.
    """
    found = shutil.which(text)
    if found is None:
        raise ConversionError(f'--python "{text}": no such program; name the interpreter of a venv')
    # Not resolved: the link in a venv is what makes it that venv.
    return Path(found).absolute()


def check_interpreter(python: Path, environment: Mapping[str, str]) -> None:
    """Ask an interpreter, in one short call, whether the framework's process can run under it.

    Args:
        python: the interpreter.
        environment: what the process will get.

    Raises:
        ConversionError: it is no interpreter, of the wrong version, or lacks a package; says which
            and how to get them.
    """
    answer = _ask(python, environment)
    low, high = PYTHONS
    if not low <= answer.python <= high:
        raise ConversionError(
            f"{python} is Python {_dotted(answer.python)}; the conversion needs {_dotted(low)} to "
            f"{_dotted(high)}"
        )
    missing, wrong = [], []
    for package, at_least, below in NEEDED.values():
        version = answer.packages.get(package)
        if version is None:
            missing.append(package)
        elif not _numbers(at_least) <= _numbers(version) < _numbers(below):
            wrong.append(f"{package} {version} (needed: {at_least} or later, before {below})")
    if missing or wrong:
        said = [f"lacks {', '.join(missing)}"] if missing else []
        said += [f"has {', '.join(wrong)}"] if wrong else []
        wanted = [f"{name}>={low_},<{high_}" for name, low_, high_ in NEEDED.values()]
        words = [str(python), "-m", "pip", "install", *wanted]
        raise ConversionError(f"{python} {' and '.join(said)}: {shlex.join(words)}")


def lend_code(folder: Path) -> str:
    """Links to our two packages and nothing beside them, for an interpreter's import path."""
    folder.mkdir()
    for package in (edged, converters):
        (folder / package.__name__).symlink_to(Path(str(package.__file__)).absolute().parent)
    return str(folder)


def _ask(python: Path, environment: Mapping[str, str]) -> _Answer:
    packages = [package for package, _, _ in NEEDED.values()]
    try:
        done = subprocess.run(
            [str(python), "-c", _QUESTION, *packages],
            env=dict(environment), cwd=os.sep, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        return msgspec.json.decode(done.stdout, type=_Answer)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConversionError(f"{python} cannot be run: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        said = f": {words[0][:200]}" if words else ""
        raise ConversionError(
            f"{python} does not answer as a Python interpreter does{said}"
        ) from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
