"""TensorRT's Python package, whichever release is here, and what it says when it fails.

Releases 8.6 (JetPack 6.0), 10.3 (6.1 and later), 10.16 (7.2) and 11 differ in what they removed.
Everything in ``edged`` calls only what all of them have; what some lack is asked for by name
(``member``) and done without. ``tests/runtimes/test_tensorrt_api.py`` holds that against the real
bindings. TensorRT for RTX is the same interface under another name and is taken where it is the
one installed.

TensorRT reports by its logger and a None; the logger here keeps its words for our errors. The
driver is asked before anything is made: without one the package crashes.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edged.errors import LoadError

PACKAGES = (
    ("tensorrt", "TensorRT"),
    ("tensorrt_bindings", "TensorRT"),
    ("tensorrt_rtx", "TensorRT-RTX"),
    ("tensorrt_rtx_bindings", "TensorRT-RTX"),
)
"""Names to import, and what the product is called. The second of each kind is what the wheels of
the bindings are called without the package that only renames them."""
_INSTALL = "on a Jetson it comes with JetPack (use a venv with --system-site-packages)"
_KEPT_LINES = 6
"""So many of the last errors go into a message: the first says what, the last say where."""
_LINE_CAP = 300

DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's element types that NumPy has, by their names in ``DataType``."""


@dataclass(frozen=True, slots=True)
class TensorRt:
    """The package.

    Args:
        module: as it was imported.
        product: ``TensorRT`` or ``TensorRT-RTX``.
        version: in full, e.g. ``10.3.0``.
    """

    module: Any
    product: str
    version: str

    @property
    def words(self) -> str:
        """For messages."""
        return f"{self.product} {self.version}"

    @property
    def major(self) -> int:
        """First number of the version."""
        return int(self.version.split(".")[0])

    def member(self, enum: str, name: str) -> Any:
        """A member of an enum, or None where this release has none of that name."""
        return getattr(getattr(self.module, enum, None), name, None)

    @property
    def parser_version(self) -> str:
        """Of the ONNX parser, e.g. ``10.3``; the package gives one number."""
        number = int(self.module.get_nv_onnx_parser_version())
        return str(number)

    def network_flags(self, *, is_typed: bool = True) -> int:
        """For ``create_network``: types as the graph says, where the release can.

        Args:
            is_typed: whether they are wanted so; else the builder's flags choose.

        Releases without strong typing choose types by flags of the builder, and need to be told
        that the batch is an axis like any other.
        """
        name = "STRONGLY_TYPED" if is_typed else "EXPLICIT_BATCH"
        flag = self.member("NetworkDefinitionCreationFlag", name)
        if flag is None:
            flag = self.member("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")
        return 0 if flag is None else 1 << int(flag)

    @property
    def is_strongly_typed(self) -> bool:
        """Whether the graph alone decides the precision."""
        return self.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED") is not None


class Words:
    """What TensorRT's logger said, for one piece of work."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._warnings: deque[str] = deque(maxlen=_KEPT_LINES)

    def add(self, text: str, *, is_error: bool) -> None:
        """Keep one line."""
        line = " ".join(text.split())
        line = line if len(line) <= _LINE_CAP else line[: _LINE_CAP - 1] + "…"
        (self._errors if is_error else self._warnings).append(line)

    def said(self) -> str:
        """Its errors on one line, else its warnings, else that it said nothing."""
        return "; ".join(self._errors or self._warnings) or "it does not say why"

    def clear(self) -> None:
        """Forget: what follows is other work."""
        self._errors.clear()
        self._warnings.clear()


def make_logger(trt: TensorRt, words: Words) -> Any:
    """An object of the package's logger class that keeps errors and warnings in ``words``.

    It has to live as long as whatever was made with it.
    """
    base: Any = trt.module.ILogger
    severity = base.Severity
    errors = (severity.ERROR, severity.INTERNAL_ERROR)

    class Logger(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)

        def log(self, level: Any, text: str) -> None:
            if level in errors:
                words.add(text, is_error=True)
            elif level == severity.WARNING:
                words.add(text, is_error=False)

    return Logger()


def missing_words(find: Callable[[str], Any] = importlib.util.find_spec) -> str:
    """That no such package is installed, without importing any; empty where one is."""
    importlib.invalidate_caches()
    if any(find(name) for name, _ in PACKAGES):
        return ""
    return f"TensorRT is not installed; {_INSTALL}"


def find_tensorrt(
    packages: Sequence[tuple[str, str]] = PACKAGES,
    load: Callable[[str], Any] = importlib.import_module,
) -> TensorRt:
    """Import the first that is there.

    Raises:
        LoadError: none is, or one is and does not load: a library is missing, most often.
    """
    problem = ""
    for name, product in packages:
        try:
            module = load(name)
        except ModuleNotFoundError:
            continue
        # A JetPack with a library left out raises OSError, a wheel without libraries ImportError.
        except (ImportError, OSError) as exc:
            problem = problem or f"{product} is installed and does not load: {exc}"
            continue
        if not hasattr(module, "Builder"):
            problem = problem or f"{product}: {name} holds no builder"
            continue
        return TensorRt(module, product, str(module.__version__))
    raise LoadError(f"{problem or 'TensorRT is not installed'}; {_INSTALL}")
