"""The best of some scores by name, whoever gives the names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.config.pipeline_text import LabelsConfig
from edged.errors import FieldError
from edged.pipelines.describe import describe
from edged.pipelines.labels import Label, labels_work, read_labels
from edged.processing.texts import pack_texts, unpack_texts
from edged.specs import OutputProcessing
from edged.tensors import DTYPES, TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.manifests import make_manifest
from tests.fakes.pages import example
from tests.fakes.pipelines import Site, model, planned
from tests.fakes.token_files import write_token_file
from tests.pipelines.test_run import ask

NAMES = [Label("cat"), Label("Hündin"), Label("文")]
SCORES = np.array([[0.2, 0.7, 0.1], [0.4, 0.2, 0.4], [np.nan, 0.1, 0.2], [np.nan] * 3], np.float32)


def best(labels, scores=SCORES, **fields):
    work = labels_work(LabelsConfig(from_="x", **fields), labels)
    specs = work.outputs({"from": TensorSpec("from", str(scores.dtype), ("batch", 3))})
    made = work.run({"from": scores})
    for spec in specs:
        assert made[spec.name].dtype == DTYPES[spec.dtype].numpy
        assert made[spec.name].shape[1:] == spec.shape[1:]
    return unpack_texts(made["label"]), made["index"].tolist(), made["score"].tolist()


def test_the_best():
    label, index, score = best(NAMES)
    assert label == ["Hündin", "cat", "文", ""]  # equal scores: the first; nothing of no number
    assert index == [1, 0, 2, -1]
    np.testing.assert_allclose(score[:3], [0.7, 0.4, 0.2])


def test_the_best_two():
    label, index, _ = best(NAMES, top=2)
    assert label == [["Hündin", "cat"], ["cat", "文"], ["文", "Hündin"], ["", ""]]
    assert index == [[1, 0], [0, 2], [2, 1], [-1, -1]]


def test_thresholds():
    label, index, score = best(NAMES, threshold=0.5)
    assert label == ["Hündin", "", "", ""]
    assert index == [1, -1, -1, -1]
    assert score[1] == np.float32(0.4)
    mine = [Label("cat", 0.45, "animal"), Label("dog"), Label("文", 0.1)]
    assert best(mine, threshold=0.9)[0] == ["", "animal", "文", ""]


def test_whole_numbers():
    assert best(NAMES, np.array([[1, 5, 2]], np.int64))[1] == [1]


def test_files(tmp_path: Path):
    path = tmp_path / "l.txt"
    path.write_text("cat\n\ndog\t0.5\r\nbird\t\tanimal\nfish\t.5\tanimal", encoding="utf-8")
    assert read_labels(path) == [
        Label("cat"), Label(""), Label("dog", 0.5), Label("bird", None, "animal"),
        Label("fish", 0.5, "animal"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a\nb\tmuch\n", ":2: 'much' is no threshold; expected a number"),
        (b"b\tnan\n", ":1: 'nan' is no threshold"),
        (b"a\t1\tb\tc\n", ":1: expected LABEL, or LABEL, THRESHOLD and INSTEAD"),
        (b"\xff", "is not UTF-8"),
        (b"a" * (4 << 20) + b"b", "has more than 4194304 bytes"),
    ],
)
def test_wrong_files(tmp_path: Path, data: bytes, said: str):
    (tmp_path / "l.txt").write_bytes(data)
    with pytest.raises(FieldError) as caught:
        read_labels(tmp_path / "l.txt")
    assert caught.value.path == "labels.file"
    assert said in caught.value.reason
    with pytest.raises(FieldError, match="cannot read"):
        read_labels(tmp_path / "none.txt")


MODEL = make_manifest(
    [("x", "float32", ("batch", 2))],
    [("y", "float32", ("batch", 3))],
    output_processing={"y": OutputProcessing("none", ("p", "q", "r"))},
)
BARE = make_manifest([("x", "float32", ("batch", 2))], [("y", "float32", ("batch", 3))])
TEXT = """\
    inputs: {x: "float32[batch,2]"}
    steps:
    - {name: m, model: m, inputs: x}
    - {name: soft, compute: softmax(m)}
    - {name: named, labels: {STEP}}
    outputs: {label: named.label, index: named.index}
"""


@pytest.mark.parametrize("step", ["from: m", "from: soft, of: m", "from: soft, of: m.y"])
def test_by_the_bundles_labels(step: str):
    plan, problems = planned(TEXT.replace("STEP", step), m=MODEL)
    assert not problems
    assert [str(spec) for spec in plan.outputs] == ["uint8[batch,1]", "int64[batch]"]


@pytest.mark.parametrize(
    ("step", "model", "said"),
    [
        ("from: soft", MODEL, 'labels.of: "soft" is no output of a model'),
        ("from: m", BARE, 'labels.of: the bundle of model "m" gives "m" no labels'),
        ("from: soft, of: m.z", MODEL, "labels.of: the bundle"),
        ("from: x, of: m", MODEL, "labels.of: has 3 labels; the scores are float32[batch,2]"),
        ("from: m, top: 4", MODEL, "labels.top: is 4; there are 3 classes"),
    ],
)
def test_no_labels(step: str, model, said: str):
    _, problems = planned(TEXT.replace("STEP", step), m=model)
    path, text = problems[0]
    assert said in f"{path}: {text}".replace("pipelines.p.steps[2].", "")


def test_a_bundle_that_is_not_here_is_no_second_problem():
    """Whoever looked for it has complained."""
    assert planned(TEXT.replace("STEP", "from: x, of: m"))[1] == []


@on_loop
async def test_the_pages_classes_of_texts(tmp_path: Path, monkeypatch):
    """docs/text.md: texts to logits to names, with what is said below the threshold."""
    write_token_file(tmp_path / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    words = next(
        line for line in example("text.md", "Text in, vector out").splitlines() if "tokens" in line
    )
    axes = ("batch", "words")

    def mood(given):
        long = given["mask"].sum(axis=1, keepdims=True).astype(np.float32)
        return {"y": np.concatenate([long * 0, long - 4, 4 - long], axis=1)}

    session, _, _ = model(mood, [("ids", "int64", axes), ("mask", "int64", axes)])
    manifest = make_manifest(
        [("ids", "int64", axes), ("mask", "int64", axes)],
        [("y", "float32", ("batch", 3))],
        output_processing={"y": OutputProcessing("none", ("even", "long", "short"))},
    )
    head = f'    inputs: {{text: "uint8[batch,characters]"}}\n    steps:\n{words}\n'
    site = Site(head + example("text.md", "Classes"), mood=(session, manifest, 10**9))
    assert site.plan.outputs[0].dtype == "uint8"
    texts = ["", "the is", "the pump in hall two is hot and loud"]
    answers, _ = ask(site, {"text": pack_texts([text.encode() for text in texts])})
    await until(lambda: answers)
    outputs = answers.only.outputs
    assert unpack_texts(outputs["label"]) == ["short", "", "long"]
    assert (outputs["score"][[0, 2]] > 0.6).all()
    assert describe(site.plan).output_processing["label"].text is True


@pytest.mark.parametrize("spec", [("bool", ("batch", 3)), ("float32", ())])
def test_no_scores(spec):
    with pytest.raises(FieldError, match=r"labels\.from: .*expected scores along the last axis"):
        labels_work(LabelsConfig(from_="x"), NAMES).outputs({"from": TensorSpec("from", *spec)})
