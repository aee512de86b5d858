"""Packages as pip leaves them in a folder, without pip: a module, its record, its entry points."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write_package(
    folder: Path,
    name: str,
    source: str,
    points: dict[str, str],
    *,
    group: str = "edged.runtimes",
    version: str | None = "1.0",
) -> None:
    """Put a package into a folder that is, or is to be, on ``sys.path``.

    Args:
        folder: made where it is missing.
        name: of the package and its one module, in letters and digits.
        source: of the module.
        points: entry points, name to ``module:attribute``.
        group: of the entry points.
        version: None for a record that has none.
    """
    record = folder / f"{name}-{version or 0}.dist-info"
    record.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    lines = f"Metadata-Version: 2.1\nName: {name}\n"
    (record / "METADATA").write_text(lines + (f"Version: {version}\n" if version else ""))
    rows = "".join(f"{key} = {value}\n" for key, value in points.items())
    (record / "entry_points.txt").write_text(f"[{group}]\n{rows}")


def write_example_runtime(folder: Path) -> None:
    """The example of docs/runtimes.md, as a package in a folder."""
    source = (ROOT / "docs/examples/runtime/edged_example_runtime.py").read_text()
    write_package(
        folder, "edged_example_runtime", source,
        {"numpy": "edged_example_runtime:NumpyRuntime"},
    )  # fmt: skip
