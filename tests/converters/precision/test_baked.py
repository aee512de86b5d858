"""A lower precision of a model with its pre-processing inside: as good as the one without it."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from converters import convert
from converters.baked.reference import preprocess
from converters.recipe import make_recipe
from converters.session import open_session
from tests.converters.precision.conftest import make_pictures

RESIZE = {"height": 8, "width": 8, "antialias": True}


def as_levels(pictures, size):
    """Grey uint8[rows,size,size,1] of which baking makes about the same pictures again."""
    levels = np.clip(np.round((pictures[:, 0] + 4) * 32), 0, 255).astype(np.uint8)
    return levels.repeat(size // 8, axis=1).repeat(size // 8, axis=2)[..., np.newaxis]


@pytest.fixture(scope="module", params=[8, 16], ids=["as it is", "resized"])
def made(request, net, tmp_path_factory):
    """Returns ``bundle(precision, bake)``: the model's bytes and the report; and raw test rows."""
    folder, size = tmp_path_factory.mktemp("baked"), request.param
    bake = {"scale": "1/32", "mean": [4.0]} | ({"resize": RESIZE} if size != 8 else {})
    words = {"source": str(net / "net.onnx"), "name": "net", "release": 1,
             "samples": str(folder / "raw.npz"), "bake": {"*": bake}}  # fmt: skip
    work = make_recipe(words).bake["*"]
    raw = {"raw": as_levels(make_pictures(1, 240), size)}
    raw["rows"] = as_levels(make_pictures(2, 64), size)
    for name, plain in (("raw", "ready"), ("rows", "ready-rows")):
        np.savez(folder / f"{name}.npz", image=raw[name])
        np.savez(folder / f"{plain}.npz", image=preprocess(work, raw[name]))
    (folder / "set").mkdir()
    for index, picture in enumerate(raw["rows"]):
        Image.fromarray(picture[:, :, 0]).save(folder / "set" / f"{index:02}.png")

    def bundle(precision, *, baked, calibration=None, **more):
        fields = words | {"precision": precision, "max_accuracy_drop": 0.02} | more
        fields["samples"] = str(folder / ("raw.npz" if baked else "ready.npz"))
        if not baked:
            del fields["bake"]
        if precision == "int8":
            rows = calibration or ("rows.npz" if baked else "ready-rows.npz")
            fields["calibration"] = str(folder / rows)
        path = folder / "net.edgb"
        report = convert(make_recipe(fields), path, empty_env="off")
        return zipfile.ZipFile(path).read("model.onnx"), report

    test = as_levels(make_pictures(5, 200), size)
    return bundle, test, preprocess(work, test), size


def test_int8(made, net):
    bundle, raw, ready, size = made
    exact = open_session((net / "net.onnx").read_bytes())({"image": ready})["scores"]
    (inside, report), (outside, _) = bundle("int8", baked=True), bundle("int8", baked=False)
    assert report.manifest.inputs[0].dtype == "uint8"
    got = open_session(inside)({"image": raw})["scores"]
    plain = open_session(outside)({"image": ready})["scores"]
    spread = exact.std()
    lost = [np.sqrt(np.mean((side - exact) ** 2)) / spread for side in (got, plain)]
    assert lost[0] < 1.25 * lost[1] < 0.05, "root mean square, as a share of the spread"
    assert (got.argmax(1) == plain.argmax(1)).mean() >= 0.98
    image = {"kind": "image", "width": size, "height": size, "mode": "L", "layout": "NHWC"}
    pictures, _ = bundle("int8", baked=True, calibration="set", input_processing={"*": image})
    assert pictures == inside, "the same pictures as files"


def test_float16(made, net):
    bundle, raw, ready, _ = made
    wide = {"tolerance": {"rtol": 0.01, "atol": 0.05}}  # scores of some tens
    exact = open_session((net / "net.onnx").read_bytes())({"image": ready})["scores"]
    (inside, report), (outside, _) = (
        bundle("float16", baked=True, **wide),
        bundle("float16", baked=False, **wide),
    )
    got = open_session(inside)({"image": raw})["scores"]
    plain = open_session(outside)({"image": ready})["scores"]
    assert report.manifest.artefacts[0].precision == "float16"
    assert report.manifest.inputs[0].dtype == "uint8"
    a_step = 2**-6  # of float16 between 16 and 32
    np.testing.assert_allclose(got, plain, rtol=0, atol=2 * a_step)
    np.testing.assert_allclose(got, exact, rtol=0.01, atol=0.05)
