"""The image around a bundle: on a base, on several, and on one that contradicts itself."""

import pytest

from converters.cli import main
from converters.publishing.checked import checked
from converters.publishing.image import add_image, add_layer, annotate, empty_bases
from converters.publishing.layout import Layout
from converters.publishing.publish import publish
from tests.converters.publishing.images import make_base, names, read_image


def test_the_layer_lies_on_the_base(bundle, tmp_path):
    below = make_base(tmp_path / "base")
    lines = publish(bundle, f"{tmp_path / 'out'}:x", [], 1, f"{tmp_path / 'base'}:box")
    ((platform, manifest, config, tars),) = read_image(tmp_path / "out", "x")
    assert platform == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    assert manifest["layers"][0] == below
    assert [names(tar) for tar in tars] == [["bin/sh"], ["models", "models/gate-1.edgb"]]
    assert config["config"]["Env"] == ["PATH=/bin"]
    assert len(config["history"]) == 2
    assert not any(line.startswith("base:") for line in lines)


def test_a_base_with_several_platforms(bundle, tmp_path):
    publish(bundle, f"{tmp_path / 'base'}:b", [], 1, None)
    publish(bundle, f"{tmp_path / 'out'}:x", [], 1, str(tmp_path / "base"))
    read = read_image(tmp_path / "out", "x")
    assert [platform["architecture"] for platform, *_ in read] == ["amd64", "arm64"]
    assert {len(tars) for *_, tars in read} == {2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["layers"][0].update(digest="sha256:../../../etc/passwd"), "only sha256"),
        (lambda m: m["layers"][0].update(digest="sha256:" + "0" * 64), "cannot be read"),
        (lambda m: m["layers"][0].update(size=1), "damaged"),
        (lambda m: m["config"].update(size=5 << 20), "bytes"),
        (lambda m: m["config"].update(mediaType="application/json"), "no OCI container image"),
        (lambda m: m.update(layers=[]), "different layers"),
        (lambda m: m.update(layers=[1]), "no OCI container image"),
        (lambda m: m["layers"][0].pop("digest"), "only sha256"),
    ],
)
def test_a_base_that_contradicts_itself(bundle, tmp_path, change, message, capsys):
    make_base(tmp_path / "base", change=change)
    words = ["--oci", str(tmp_path / "out"), "--base", str(tmp_path / "base")]
    assert main(["publish", str(bundle), *words]) == 65
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_notes_and_layer_are_the_same_on_any_day(bundle, tmp_path):
    layers = []
    for place in ("one", "two"):
        with (
            checked(bundle, [], 1) as source,
            Layout.changed(tmp_path / place) as layout,
        ):
            layer = add_layer(layout, source)
            layers.append((layer, add_image(layout, source, layer, empty_bases())["digest"]))
            notes = annotate(source)
    assert layers[0] == layers[1]
    assert notes["edged.bundle.file"] == "models/gate-1.edgb"
    assert notes["edged.bundle.sha256"] != notes["edged.bundle.digest"].removeprefix("sha256:")
