"""The pipelines that a page of the documentation shows, as configurations for a daemon."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def example(page: str, heading: str) -> str:
    """The first YAML block under a heading."""
    text = (ROOT / "docs" / page).read_text()
    block = text.partition(f"## {heading}\n")[2].partition("```yaml\n")[2].partition("```")[0]
    assert block, f'docs/{page} shows nothing under "{heading}"'
    return block
