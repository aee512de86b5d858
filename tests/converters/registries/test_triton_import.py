"""A whole repository: bundles, a configuration that edged takes, a report, and nothing half done."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import cli
from converters.registries.triton_convert import Options
from converters.registries.triton_import import import_repository
from converters.session import open_session
from edged.config.load import load
from edged.store.bundle import open_bundle
from edged.store.keys import generate_key
from tests.verdicts import check_config


def io(inputs, outputs, rest=""):
    text = rest
    for kind, entries in (("input", inputs), ("output", outputs)):
        for name, dims in entries.items():
            text += f' {kind} {{ name: "{name}" data_type: TYPE_FP32 {dims} }}'
    return text


DENSE = io({"x": "dims: 4"}, {"y": "dims: 3"}, 'backend: "onnxruntime" max_batch_size: 8')


def run(path, inputs):
    with open_bundle(path) as bundle:
        member = next(m for m in bundle.manifest.members if m.type == "onnx")
        data = b"".join(bundle.stream(member))
    return open_session(data)(inputs)


@pytest.fixture
def options(repository, tmp_path):
    return Options(repository.root, tmp_path)


def test_one_accepted_and_one_refused(repository, dense, tmp_path, capsys):
    rest = (
        " dynamic_batching { default_queue_policy { max_queue_size: 9 } } version_policy { all {} }"
    )
    labels = DENSE.replace("dims: 3", 'dims: 3 label_filename: "labels.txt"')
    repository("good", labels + rest, dense(), (1, 4), {"labels.txt": b"a\nb\nc\n"})
    repository("bad", 'backend: "python"', files={"1/model.py": b"open('fired', 'w')"})
    (tmp_path / "samples").mkdir()
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype("f4")
    np.savez(tmp_path / "samples/good.npz", x=rows)
    out = tmp_path / "out"
    words = ["import", str(repository.root), "-o", str(out), "--samples", str(tmp_path / "samples")]
    assert cli.main(words) == 65
    got = capsys.readouterr()
    assert "error: 1 of 2 models were refused: bad" in got.err
    assert "Python code" in got.out
    assert sorted(path.name for path in (out / "bundles").iterdir()) == [
        "good-1.edgb",
        "good-4.edgb",
    ]
    assert check_config(out, with_files=True)[0] == []
    config = load(out).config.models["good"]
    assert config.bundle == ("bundles/good-1.edgb", "bundles/good-4.edgb")
    assert (config.batching.max_batch, config.queue.max_rows) == (8, 9)
    report = {entry["model"]: entry for entry in json.loads((out / "import.json").read_text())}
    assert report["bad"]["verdict"] == "refused"
    assert report["good"]["verdict"] == "accepted with differences"
    bundle = report["good"]["bundles"][1]
    assert bundle["proven_on"] == "your samples"
    assert bundle["before"]["inputs"][0]["shape"] == [-1, 4]
    assert bundle["after"]["inputs"][0]["shape"] == ["batch", 4]
    with open_bundle(out / "bundles/good-4.edgb") as opened:
        manifest = opened.manifest
    assert (manifest.release, manifest.provenance["origin"]["tool"]) == (4, "triton")
    assert manifest.output_processing["y"].labels == ("a", "b", "c")
    assert manifest.parity["grade"] == "verified"


@pytest.mark.slow
def test_the_layouts_of_the_examples(repository, dense, options, tmp_path):
    """Reshape, completed batching, no batching, and an ensemble: the numbers of the parts."""
    repository("dense", DENSE, dense())
    repository("auto", None, dense(names=("i", "o")))
    view = io(
        {"x": "dims: [ 2, 2 ] reshape { shape: [ 4 ] }"},
        {"y": "dims: [ 3, 1 ] reshape { shape: [ 3 ] }"},
        'backend: "onnxruntime" max_batch_size: 8',
    )
    repository("view", view, dense())
    whole = io({"x": "dims: 4"}, {"y": "dims: 3"}, 'platform: "onnxruntime_onnx"')
    repository("whole", whole, dense(batch=None))
    repository(
        "tail",
        io({"a": "dims: 3"}, {"b": "dims: 2"}, 'backend: "onnxruntime" max_batch_size: 8'),
        dense(3, 2, names=("a", "b"), opset=18, seed=1),
    )
    steps = (
        'ensemble_scheduling { step [ { model_name: "tail" input_map { key: "a" value: "mid" } '
        'output_map { key: "b" value: "OUT" } }, { model_name: "view" input_map { key: "x" '
        'value: "IN" } output_map { key: "y" value: "bent" } }, { model_name: "dense" input_map { '
        'key: "x" value: "FLAT" } output_map { key: "y" value: "mid" } } ] }'
    )
    ends = io(
        {"IN": "dims: [ 2, 2 ]", "FLAT": "dims: 4"}, {"OUT": "dims: 2", "bent": "dims: [ 3, 1 ]"}
    )
    repository("ens", f'platform: "ensemble" max_batch_size: 8 {ends} {steps}')
    out = tmp_path / "out"
    outcomes = {outcome.name: outcome for outcome in import_repository(options, out)}
    assert {outcome.verdict for outcome in outcomes.values()} <= {
        "accepted", "accepted with differences"
    }, outcomes  # fmt: skip
    assert check_config(out, with_files=True)[0] == []
    models = load(out).config.models
    with open_bundle(out / "bundles/auto-1.edgb") as bundle:
        assert bundle.manifest.parity["grade"] == "checked"
    assert models["auto"].batching.max_batch == 4
    assert models["whole"].batching.max_batch == 32  # edged's default: it has no row axis
    assert any("completes it to 4" in text for text in outcomes["auto"].differences)
    assert any("run as one model" in text for text in outcomes["ens"].differences)
    rows = np.random.default_rng(5).normal(size=(6, 4)).astype("f4")
    flat = run(out / "bundles/dense-1.edgb", {"x": rows})["y"]
    bent = run(out / "bundles/view-1.edgb", {"x": rows.reshape(6, 2, 2)})["y"]
    np.testing.assert_allclose(bent[..., 0], flat, rtol=1e-6)
    tail = run(out / "bundles/tail-1.edgb", {"a": flat})["b"]
    got = run(out / "bundles/ens-1.edgb", {"IN": rows.reshape(6, 2, 2), "FLAT": rows})
    np.testing.assert_allclose(got["OUT"], tail, rtol=1e-5)
    np.testing.assert_allclose(got["bent"], bent, rtol=1e-6)
    row = run(out / "bundles/whole-1.edgb", {"x": rows[0]})["y"]
    np.testing.assert_allclose(row, flat[0], rtol=1e-5)


@pytest.mark.slow
def test_signed_bundles_and_the_key_that_trusts_them(repository, dense, tmp_path):
    repository(
        "m", DENSE + " dynamic_batching { default_queue_policy { max_queue_size: 1 } }", dense()
    )
    generate_key(tmp_path / "release")
    options = Options(repository.root, tmp_path, key=tmp_path / "release.key")
    import_repository(options, tmp_path / "out")
    assert check_config(tmp_path / "out", with_files=True)[0] == []
    config = load(tmp_path / "out").config
    assert config.trust.require_signatures
    assert (tmp_path / "out/keys/import.pub").read_bytes() == (
        tmp_path / "release.pub"
    ).read_bytes()
    assert not list((tmp_path / "out").rglob("*.key"))


def refused(repository, options, tmp_path):
    outcomes = import_repository(options, tmp_path / "out")
    assert [outcome.verdict for outcome in outcomes] == ["refused"] * len(outcomes)
    assert not list((tmp_path / "out/bundles").iterdir())
    assert check_config(tmp_path / "out", with_files=True)[0] == []
    return {outcome.name: outcome.reason for outcome in outcomes}


def test_every_refusal_has_its_reason_and_leaves_nothing(repository, dense, options, tmp_path):
    repository("wrong", DENSE.replace("dims: 4", "dims: 5"), dense())
    repository("empty", DENSE)
    repository("text", DENSE, files={"1/model.onnx": b"no onnx"})
    repository("syntax", "max_batch_size: x", dense())
    inner = (
        'platform: "ensemble" max_batch_size: 8 {ends} ensemble_scheduling {{ step [ {{ '
        'model_name: "{name}" input_map {{ key: "{x}" value: "IN" }} output_map {{ key: "{y}" '
        'value: "OUT" }} }} ] }}'
    )
    ends = io({"IN": "dims: 4"}, {"OUT": "dims: 3"})
    repository("loop", inner.format(ends=ends, name="loop", x="IN", y="OUT"))
    repository("lost", inner.format(ends=ends, name="nobody", x="x", y="y"))
    repository("pyens", inner.format(ends=ends, name="py", x="x", y="y"))
    repository("py", 'backend: "python"')
    reasons = refused(repository, options, tmp_path)
    assert "[-1, 5]" in reasons["wrong"]
    assert "No such file" in reasons["empty"]
    assert "not an ONNX file" in reasons["text"]
    assert "line 1, column 17" in reasons["syntax"]
    assert "in a circle: loop → loop" in reasons["loop"]
    assert 'step "nobody"' in reasons["lost"]
    assert 'step "py": backend python' in reasons["pyens"]


@pytest.mark.parametrize(
    ("backend", "file", "words"),
    [
        ("pytorch", "model.pt", "runs on pytorch; only steps in ONNX can be joined"),
        ("tensorflow", "model.savedmodel/saved_model.pb", "runs on tensorflow; only steps in ONNX"),
        ("tensorrt", "model.plan", "a TensorRT plan belongs to one GPU"),
        ("openvino", "model.xml", "import the ONNX file that it came from"),
        ("dali", "model.dali", "a DALI pipeline: bake the steps into the model's graph"),
        ("custom", "model.so", "custom"),
    ],
)
def test_an_ensemble_with_a_step_that_is_not_onnx_is_refused_by_its_backend(
    repository, dense, options, tmp_path, backend, file, words
):
    """Also where the other step converts, and where it stands in an ensemble within."""
    ends = io({"IN": "dims: 4"}, {"OUT": "dims: 3"})
    head = f'platform: "ensemble" max_batch_size: 8 {ends} ensemble_scheduling {{ step [ '
    first = '{ model_name: "good" input_map { key: "x" value: "IN" } '
    first += 'output_map { key: "y" value: "mid" } }'
    last = '{ model_name: "odd" input_map { key: "a" value: "mid" } '
    last += 'output_map { key: "b" value: "OUT" } }'
    outer = '{ model_name: "inner" input_map { key: "IN" value: "IN" } '
    outer += 'output_map { key: "OUT" value: "OUT" } }'
    repository("good", DENSE, dense(4, 3))
    ends = io({"a": "dims: 3"}, {"b": "dims: 3"})
    repository("odd", f'backend: "{backend}" max_batch_size: 8 {ends}', files={f"1/{file}": b"x"})
    repository("inner", f"{head}{first}, {last} ] }}")
    repository("outer", f"{head}{outer} ] }}")
    outcomes = {o.name: o for o in import_repository(options, tmp_path / "out")}
    assert outcomes["good"].verdict != "refused"
    for name in ("inner", "outer"):
        assert outcomes[name].verdict == "refused"
        assert 'step "odd"' in outcomes[name].reason
        assert words in outcomes[name].reason
    assert [path.name for path in (tmp_path / "out/bundles").iterdir()] == ["good-1.edgb"]


def test_the_second_version_fails_and_the_first_is_taken_back(repository, dense, options, tmp_path):
    folder = repository("m", DENSE + " version_policy { all {} }", dense(), (1, 2))
    (folder / "2/model.onnx").write_bytes(dense(5).SerializeToString())
    reasons = refused(repository, options, tmp_path)
    assert "[-1, 4]" in reasons["m"]


def test_an_output_that_exists_or_cannot_be_written(repository, dense, tmp_path, capsys):
    repository("m", DENSE, dense())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert cli.main(["import", str(repository.root), "-o", str(tmp_path / "out")]) == 65
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    target = tmp_path / "out/mine/below"
    assert cli.main(["import", str(repository.root), "-o", str(target)]) == 65
    assert cli.main(["import", str(tmp_path / "none"), "-o", str(tmp_path / "new")]) == 65
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupted_import_leaves_nothing(repository, dense, tmp_path):
    repository("m", DENSE, dense())

    def interrupt(step):
        if "packing" in step:
            raise KeyboardInterrupt

    options = Options(repository.root, tmp_path, progress=interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        import_repository(options, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_converting_a_repository_names_the_right_command(repository, dense, tmp_path, capsys):
    repository("m", DENSE, dense())
    words = [str(repository.root), "-o", str(tmp_path / "m.edgb"), "--name", "m", "--release", "1"]
    assert cli.main(words) == 65
    assert "edged-convert import" in capsys.readouterr().err


@pytest.mark.frameworks
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchscript_and_savedmodel_by_their_own_converters(repository, tmp_path):
    for name in ("torch", "tensorflow"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed on this Python")
    script = Path(__file__).with_name("produce.py")
    words = [sys.executable, "-W", "ignore", str(script), "triton", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    head = 'backend: "pytorch" max_batch_size: 8'
    folder = repository("script", io({"INPUT__0": "dims: 4"}, {"OUTPUT__0": "dims: 2"}, head))
    (tmp_path / "model.pt").rename(folder / "1/model.pt")
    head = 'platform: "tensorflow_savedmodel" max_batch_size: 8'
    folder = repository("saved", io({"x": "dims: 4"}, {"y": "dims: 2"}, head))
    (tmp_path / "model.savedmodel").rename(folder / "1/model.savedmodel")
    repository("bare", 'backend: "pytorch"', files={"1/model.pt": b"x"})
    untrusted = {o.name: o for o in import_repository(
        Options(repository.root, tmp_path), tmp_path / "untrusted")}  # fmt: skip
    assert "--trust" in untrusted["script"].reason
    outcomes = import_repository(Options(repository.root, tmp_path, trust=True), tmp_path / "out")
    found = {outcome.name: outcome for outcome in outcomes}
    assert "write input and output" in found["bare"].reason
    assert not found["script"].reason
    assert not found["saved"].reason
    assert check_config(tmp_path / "out", with_files=True)[0] == []
    with open_bundle(tmp_path / "out/bundles/script-1.edgb") as bundle:
        manifest = bundle.manifest
    assert [e.name for e in manifest.inputs] == ["INPUT__0"]
    assert [e.name for e in manifest.outputs] == ["OUTPUT__0"]
