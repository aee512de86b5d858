"""``edged-convert publish``: a verified bundle as an image in an OCI layout. Pushes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.publishing.checked import checked
from converters.publishing.image import (
    add_image,
    add_layer,
    copy_blobs,
    empty_bases,
    read_bases,
)
from converters.publishing.layout import Layout, parse_place


def publish(
    bundle: Path, place: str, keys: Sequence[Path], threshold: int, base: str | None
) -> list[str]:
    """Put a bundle into an image layout under a tag; other tags stay.

    Args:
        bundle: the file; verified before anything is written.
        place: ``FOLDER[:TAG]``; the tag is NAME-RELEASE unless said.
        keys: trusted public keys, see ``checked``.
        threshold: how many of them must have signed.
        base: ``FOLDER[:TAG]`` of the image to put it on; None for the files alone.

    Returns:
        What was checked and written, a line each.

    Raises:
        BundleError: the bundle is not whole, or not signed by enough of the keys.
        ConversionError: the folder or the base is none that can be used; the tags are as before.
    """
    folder, tag = parse_place(place)
    below = None
    bases = empty_bases()
    if base is not None:
        base_folder, base_tag = parse_place(base)
        below = Layout.opened(base_folder)
        bases = read_bases(below, base_tag)
    with checked(bundle, keys, threshold) as source, Layout.changed(folder) as layout:
        if below is not None:
            copy_blobs(below, layout, bases)
        layer = add_layer(layout, source)
        image = add_image(layout, source, layer, bases)
        name = tag or f"{source.manifest.name}-{source.manifest.release}"
        before = layout.set_tag(name, image)
        platforms = ", ".join(
            f"{b.platform.get('os')}/{b.platform.get('architecture')}" for b in bases
        )
        lines = [*source.said, f"image: {folder}:{name} {image['digest']} ({platforms})"]
    if before:
        lines.append(f"replaced: {name} was {before}")
    if below is None:
        lines.append(
            "base: none, so the image holds files alone: for volumes and for tools that copy; "
            "KServe runs sh, ln and sleep in it and needs --base"
        )
    return lines
