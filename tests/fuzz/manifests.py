"""Manifests of bundles."""

from __future__ import annotations

import contextlib

from edged.errors import EdgedError
from edged.manifest import canonical_json, parse_manifest
from edged.specs import ImageInput
from edged.store.bundle import check_names
from tests.bundles import make_manifest
from tests.fuzz.target import sorted_json
from tests.models import all_models, double


def run_manifest(data: bytes) -> None:
    """What is accepted has one form, and its signature can be asked for."""
    for text in (data, sorted_json(data)):
        with contextlib.suppress(EdgedError):
            manifest = parse_manifest(text)
            assert canonical_json(manifest) == text
            assert manifest.input_specs()
            assert manifest.is_row_wise in (True, False)
            check_names(manifest)


def seed_manifests() -> list[bytes]:
    image = ImageInput(width=8, height=8, mode="L", scale=0.5, mean=(0.1,), std=(0.2,))
    processing = {"input_processing": {"x": image}}
    return [
        canonical_json(make_manifest(double())[0]),
        canonical_json(make_manifest(double(), golden=False, **processing)[0]),
        *(canonical_json(make_manifest(model)[0]) for model in all_models()[:5]),
    ]
