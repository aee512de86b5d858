"""From raw pictures to a bundle, and each part of the proof seen to close."""

import textwrap

import msgspec
import numpy as np
import pytest

import converters
from converters import ParityError
from converters.baked import nodes, proof
from converters.baked.reference import preprocess
from converters.baked.words import Bake
from converters.errors import ConversionError, UnsupportedModelError
from converters.gate.checks import Checks
from converters.recipe import make_recipe
from converters.session import open_session
from converters.show import describe_report
from converters.targets.table import find_target
from converters.verify import verify_bundle
from edged.manifest import Tolerance
from edged.store.bundle import open_bundle
from edged.store.golden import read_safetensors

BAKE = {
    "resize": {"height": 8, "width": 6, "antialias": True},
    "scale": "1/255",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
}
PLAIN = {key: value for key, value in BAKE.items() if key != "resize"}


WORK = msgspec.convert(BAKE, Bake)


def bake(model, work, raw, tolerance=Tolerance(), target="cpu"):  # noqa: B008
    """The proof alone; gives what was looked at."""
    checks = Checks()
    proof.bake(
        model,
        {"x": work},
        {"x": raw},
        {"x": preprocess(work, raw)},
        target=find_target(target),
        tolerance=tolerance,
        checks=checks,
    )
    return checks


def convert(recipe, tmp_path):
    return converters.convert(recipe, tmp_path / "p.edgb", empty_env="off")


def members_of(path):
    with open_bundle(path) as bundle:
        return {m.name: b"".join(bundle.stream(m)) for m in bundle.manifest.members}


def test_a_bundle_that_takes_raw_pictures(save_pictures, picture_model, pictures, tmp_path):
    recipe = save_pictures(picture_model(), BAKE, input_names=["photo"])
    report = convert(recipe, tmp_path)
    (entry,) = report.manifest.inputs
    assert (entry.name, str(entry.spec())) == ("photo", "uint8[batch,photo_height,photo_width,3]")
    assert report.manifest.parity["rows"] == 12
    assert report.manifest.parity["grade"] == "verified"
    assert report.manifest.parity["edges"] == ["zeros", "lowest", "highest"]
    told = report.manifest.provenance["baked"]["photo"]
    assert "resize to 8x6 (bilinear, half-pixel, antialiased), times 1/255" in told
    (check,) = [check for check in report.checks if check.name == proof.NAME]
    assert check.verdict == "passed"
    assert "within" in check.detail
    assert "8 rows answer as without it and at 15x8, 8x16" in check.detail
    shown = "\n".join(table.plain() for table in describe_report(report))
    assert "pre-processing" in shown
    members = members_of(report.path)
    golden = read_safetensors(members["golden.safetensors"])
    assert golden["in.photo"].dtype == np.uint8
    run, plain = (
        open_session(members["model.onnx"]),
        open_session(picture_model().SerializeToString()),
    )
    # A picture of another size, far from the samples'.
    other = np.random.default_rng(9).integers(0, 256, (3, 50, 33, 3)).astype(np.uint8)
    wanted = plain({"x": preprocess(recipe.bake["*"], other)})
    np.testing.assert_allclose(run({"photo": other})["scores"], wanted["scores"], 1e-4, 1e-5)
    assert verify_bundle(report.path, [], run=True)
    again = converters.convert(recipe, tmp_path / "again.edgb", empty_env="off")
    assert again.digest == report.digest


def test_without_a_resize_and_with_a_picture_binding(
    save_pictures, picture_model, pictures, tmp_path
):
    work = {"kind": "image", "width": 6, "height": 8, "layout": "NHWC"}
    recipe = save_pictures(
        picture_model(layout="NHWC"),
        {**PLAIN, "model_layout": "NHWC"},
        pictures[:, :8, :6],
        input_processing={"*": work},
        edges="none",
    )
    report = convert(recipe, tmp_path)
    assert str(report.manifest.inputs[0].spec()) == "uint8[batch,8,6,3]"
    assert report.manifest.parity["edges"] == []
    # The daemon's own codec takes the pixels as they are.
    from edged.processing.image import ImageCodec

    ImageCodec(report.manifest.inputs[0].spec(), report.manifest.input_processing["x"])


def damage(monkeypatch, place):
    """Let the graph do something else than the words say."""
    if place == "edges of the resize":
        honest = nodes.Front._add

        def add(self, operator, *more, **attributes):
            attributes.pop("exclude_outside", None)
            return honest(self, operator, *more, **attributes)

        monkeypatch.setattr(nodes.Front, "_add", add)
    else:
        honest_compute = nodes.Front._compute

        def compute(self, operator, name, values, axes):
            if place == "order":
                values = values[::-1]
            elif operator == "Mul":
                values = (values[0] * 1.0002,)
            honest_compute(self, operator, name, values, axes)

        monkeypatch.setattr(nodes.Front, "_compute", compute)


@pytest.mark.parametrize("place", ["edges of the resize", "order", "factor"])
def test_steps_that_are_not_the_words_are_refused(picture_model, pictures, monkeypatch, place):
    damage(monkeypatch, place)
    with pytest.raises(ParityError, match=r'bake "x": the steps in the graph differ from numpy'):
        bake(picture_model(), WORK, pictures)
    # The control: looked at less closely, the same graph reaches the next gate.
    monkeypatch.setattr(proof, "_prove_alone", lambda *_: 0.0)
    with pytest.raises(ParityError, match="with the pre-processing baked in"):
        bake(picture_model(), WORK, pictures, Tolerance(rtol=1e-6, atol=1e-6))
    monkeypatch.setattr(proof, "_prove_answers", lambda *_: None)
    bake(picture_model(), WORK, pictures)


def test_other_sizes_are_tried(picture_model, pictures, monkeypatch):
    """A resize that is right for the samples' size and fixed to it is found."""
    honest = nodes.Front._resize

    def fixed(self, work):
        honest(self, work)
        made = self.nodes[-1]
        made.input[2] = self._weight("factors", np.array([1, 1, 8 / 20, 6 / 16], np.float32))
        made.input[3] = ""

    monkeypatch.setattr(nodes.Front, "_resize", fixed)
    with pytest.raises(ConversionError, match=r"steps give \[8, 3, 6, 3\] in the graph"):
        bake(picture_model(), WORK, pictures)
    monkeypatch.setattr(proof, "_prove_sizes", lambda *_, **_named: [])
    bake(picture_model(), WORK, pictures)  # the control


def test_a_wrong_number_of_channels_is_refused(save_pictures, picture_model, pictures, tmp_path):
    grey = save_pictures(picture_model(), {"resize": BAKE["resize"]}, pictures[..., :1])
    with pytest.raises(ConversionError, match=r'"image" as float32 \[1, 8, 6\] a row'):
        convert(grey, tmp_path)


def test_an_operator_that_the_opset_lacks_is_refused(picture_model, pictures):
    with pytest.raises(UnsupportedModelError, match="needs opset 18, the model has 17"):
        bake(picture_model(opset=17), WORK, pictures)


def test_an_operator_that_the_target_lacks_is_refused(picture_model, pictures, monkeypatch):
    lacks = "converters.gate.operators.has_kernel"
    monkeypatch.setattr(lacks, lambda _table, _domain, operator, _since: operator != "Resize")
    with pytest.raises(UnsupportedModelError, match="Resize"):
        bake(picture_model(), WORK, pictures)


def test_tensorrt_is_told(picture_model, pictures):
    remarks = bake(picture_model(), WORK, pictures, target="jetpack6").done
    assert [check.verdict for check in remarks] == ["passed", "remark"]
    assert "antialiased resize" in remarks[1].detail


def test_the_words_are_part_of_the_recipes_digest(save_pictures, picture_model):
    contents = {"source": "a" * 64, "samples": "b" * 64}
    digests = {
        save_pictures(picture_model(), bake).digest(contents)
        for bake in (BAKE, PLAIN, {**PLAIN, "scale": 0.5})
    }
    assert len(digests) == 3


def test_what_is_allowed_is_far_below_a_pixel_elsewhere(pictures):
    """The stated tolerance: a fortieth of a level here, where half a pixel is a hundred levels."""
    work = Bake(resize=converters.baked.words.Resize(height=8, width=6))
    ready = preprocess(work, pictures)
    allowed = proof._allowed(work, pictures, ready)
    assert allowed.max() < 1 / 40
    shifted = preprocess(work, np.roll(pictures, 1, axis=1))
    assert np.abs(shifted - ready).max() > 100


@pytest.mark.frameworks
def test_a_torch_network_with_its_own_pre_processing(tmp_path, pictures, monkeypatch):
    """The numbers are those of the program that the network was trained with."""
    import torch

    code = """
        import torch

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(1)
                self.see = torch.nn.Conv2d(3, 8, 3, stride=2)
                self.say = torch.nn.Linear(8 * 11 * 8, 5)

            def forward(self, picture):
                seen = torch.relu(self.see(picture)).flatten(1)
                return {"scores": torch.softmax(self.say(seen), 1)}
    """
    (tmp_path / "seenet.py").write_text(textwrap.dedent(code))
    np.savez(tmp_path / "raw.npz", picture=pictures)
    monkeypatch.chdir(tmp_path)
    size = (24, 18)
    resize = {"height": size[0], "width": size[1], "antialias": True}
    recipe = make_recipe(
        {
            "source": "seenet:Net",
            "samples": str(tmp_path / "raw.npz"),
            "name": "seen",
            "release": 1,
            "bake": {"picture": {**BAKE, "resize": resize}},
        }
    )
    report = converters.convert(recipe, tmp_path / "p.edgb", empty_env="off", trust=True)
    assert str(report.manifest.inputs[0].spec()) == ("uint8[batch,picture_height,picture_width,3]")
    monkeypatch.syspath_prepend(str(tmp_path))
    import seenet

    other = np.random.default_rng(9).integers(0, 256, (3, 50, 33, 3)).astype(np.uint8)
    planes = torch.from_numpy(other).permute(0, 3, 1, 2).float()
    planes = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True) / 255
    mean, std = (torch.tensor(BAKE[word]).reshape(3, 1, 1) for word in ("mean", "std"))
    with torch.no_grad():
        wanted = seenet.Net().eval()((planes - mean) / std)["scores"].numpy()
    run = open_session(members_of(report.path)["model.onnx"])
    np.testing.assert_allclose(run({"picture": other})["scores"], wanted, 1e-4, 1e-5)
