"""Which model files engines are built from, and for how many rows."""

from __future__ import annotations

import msgspec
import pytest

from edged.engines.sources import buildable, job_for, options_for, why_none, wishes
from edged.manifest import ArtefactEntry, Golden, Member
from tests.bundles import make_manifest
from tests.models import double


def manifest(*entries: ArtefactEntry, **changes):
    made, _ = make_manifest(double(), name="m")
    if entries:
        members = tuple(Member(one.file, "onnx", 1, "ab" * 32) for one in entries)
        changes = {"artefacts": entries, "members": (*made.members, *members), **changes}
    return msgspec.structs.replace(made, **changes)


FULL = ArtefactEntry("onnx", "full.onnx", "float32")
HALF = ArtefactEntry("onnx", "half.onnx", "float16")
INT8 = ArtefactEntry("onnx", "int8.onnx", "int8")
OWN = ArtefactEntry("tensorrt", "own.onnx", "int8")


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ((FULL,), {"float32": FULL}),
        ((FULL, HALF), {"float32": FULL, "float16": HALF}),
        ((FULL, INT8), {"float32": FULL}),
        ((FULL, INT8, OWN), {"float32": FULL, "int8": OWN}),
    ],
)
def test_what_tensorrt_can_take(entries, found):
    assert buildable(manifest(*entries)) == found


def test_an_engine_is_nothing_to_build_from():
    made = manifest(FULL, OWN)
    members = tuple(
        msgspec.structs.replace(one, type="tensorrt") if one.name == "own.onnx" else one
        for one in made.members
    )
    assert buildable(msgspec.structs.replace(made, members=members)) == {"float32": FULL}


def test_a_precision_that_is_asked_for_is_the_only_one():
    made = manifest(FULL, HALF)
    assert [one.entry for one in wishes(made, "d" * 64)] == [FULL, HALF]
    [one] = wishes(made, "d" * 64, "float16")
    assert one.entry == HALF
    assert (one.source.bundle, one.source.onnx_sha256) == ("d" * 64, "ab" * 32)
    assert wishes(made, "d" * 64, "int8") == []


def test_without_golden_samples_or_with_a_second_file_nothing_is_built():
    assert wishes(manifest(FULL, golden=None), "d" * 64) == []
    assert "no golden samples" in why_none(manifest(FULL, golden=None))
    made = manifest(FULL)
    data = Member("w.data", "onnx-data", 1, "ab" * 32)
    second = msgspec.structs.replace(made, members=(*made.members, data))
    assert wishes(second, "d" * 64) == []
    assert "second file" in why_none(second)
    assert "no ONNX file" in why_none(manifest(INT8))
    assert why_none(made) == ""


def test_an_engine_takes_every_batch_that_the_daemon_runs():
    made = manifest(FULL)
    assert (options_for(made, 0).max_batch, options_for(made, 0).usual_batch) == (32, 8)
    assert (options_for(made, 4).max_batch, options_for(made, 4).usual_batch) == (32, 4)
    assert options_for(made, 100).max_batch == 100
    golden = Golden("golden.safetensors", 70, {})
    assert options_for(manifest(FULL, golden=golden), 4).max_batch == 70


def test_a_job_in_the_background_under_a_cap():
    made = manifest(FULL)
    job = job_for(made, options_for(made, 4), 300 << 20)
    assert (job.memory_mib, job.is_background, job.chunk) == (300, True, 32)
    assert (job.inputs, job.outputs) == (made.inputs, made.outputs)
