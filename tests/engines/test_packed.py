"""Which engines of a bundle fit this machine, by what its manifest says."""

from __future__ import annotations

import msgspec
import pytest

from edged.engines.packed import engines_of, fitting, host_said, match
from edged.errors import IncompatibleError
from edged.manifest import ArtefactEntry
from edged.runtimes.engine import Host
from tests.engines import ELSEWHERE, HOST, build, engine_names, with_engines, without_said
from tests.models import double


def change(name: str) -> Host:
    value = 99 if name == "processors" else "other"
    return msgspec.structs.replace(HOST, **{name: value})


def test_of_several_the_one_that_fits():
    built = [build(double(), host) for host in (ELSEWHERE, HOST, change("driver"))]
    manifest, _ = with_engines(double(), built)
    names = engine_names(manifest)
    assert [entry.file for entry in engines_of(manifest)] == names
    found = match(manifest, HOST)
    assert [entry.file for entry in found.fits] == [names[1]]
    assert found.others == {
        names[0]: "was built for compute capability 7.2 (here: 8.7); gpu Another (here: Fake)",
        names[2]: "was built for driver other (here: 580.159)",
    }
    assert fitting(manifest, HOST) == found.fits


@pytest.mark.parametrize("name", Host.__struct_fields__)
def test_every_part_of_a_host_keeps_one_out(name: str):
    manifest, _ = with_engines(double(), [build(double(), change(name))])
    (file,) = engine_names(manifest)
    with pytest.raises(IncompatibleError, match=f"this device: {file} was built for"):
        fitting(manifest, HOST)


def test_a_fleet_of_others_is_not_all_told():
    hosts = [msgspec.structs.replace(HOST, gpu=f"GPU {n}") for n in range(5)]
    manifest, _ = with_engines(double(), [build(double(), host) for host in hosts])
    with pytest.raises(
        IncompatibleError, match=r"gpu GPU 2 .* and 2 more; build one on this device"
    ):
        fitting(manifest, HOST)


def test_a_file_to_build_from_is_no_engine():
    manifest, _ = with_engines(double(), [])
    entry = ArtefactEntry("tensorrt", "model.onnx", "int8")
    manifest = msgspec.structs.replace(manifest, artefacts=(*manifest.artefacts, entry))
    assert engines_of(manifest) == []


class TestWithoutAWord:
    """A manifest that another tool wrote."""

    def test_the_worker_decides(self):
        manifest, _ = with_engines(double(), [build(double(), ELSEWHERE)])
        silent = without_said(manifest)
        assert [entry.file for entry in match(silent, HOST).fits] == engine_names(manifest)

    def test_not_where_another_is_known_to_fit(self):
        manifest, _ = with_engines(double(), [build(double(), ELSEWHERE), build(double())])
        said = manifest.provenance["engines"]
        _, right = engine_names(manifest)
        partly = msgspec.structs.replace(manifest, provenance={"engines": {right: said[right]}})
        assert [entry.file for entry in match(partly, HOST).fits] == [right]

    @pytest.mark.parametrize(
        "said", [None, 1, [], {"host": None}, {"host": {"gpu": 1}}, {}, {"host": {"x": "y"}}]
    )
    def test_a_word_that_does_not_read_is_none(self, said: object):
        manifest, _ = with_engines(double(), [build(double())])
        (name,) = engine_names(manifest)
        broken = msgspec.structs.replace(manifest, provenance={"engines": {name: said}})
        assert host_said(broken, engines_of(broken)[0]) is None
        no_table = msgspec.structs.replace(manifest, provenance={"engines": said})
        assert host_said(no_table, engines_of(no_table)[0]) is None
