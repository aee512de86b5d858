"""Texts to numbers: shapes foretold, filling up, and texts that nobody should send."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged.config.pipeline_text import TokensConfig
from edged.errors import FieldError
from edged.pipelines.tokens import texts_of, tokens_work
from edged.processing.texts import pack_texts
from edged.specs import Size
from edged.tensors import DTYPES, TensorSpec
from tests.fakes.clock import on_loop, until
from tests.fakes.manifests import make_manifest
from tests.fakes.pages import example
from tests.fakes.pipelines import Site, model, planned
from tests.fakes.token_files import SENTENCES, write_token_file
from tests.pipelines.test_run import ask


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return write_token_file(tmp_path_factory.mktemp("tokens") / "t.json")


def work(file: Path, **fields):
    return tokens_work(TokensConfig(from_="x", file="t.json", **({"length": 16} | fields)), file)


def packed(*texts: str) -> np.ndarray:
    return pack_texts([text.encode() for text in texts])


TEXTS = TensorSpec("from", "uint8", ("batch", "characters"))


def test_rows_are_as_long_as_the_longest(file: Path):
    step = work(file)
    made = step.run({"from": packed("hot", "the pump in hall two", "")})
    lengths = made["mask"].sum(axis=1)
    assert list(made) == ["ids", "mask", "types"]
    assert made["ids"].shape == (3, lengths.max())
    assert lengths[2] == 2
    assert (made["ids"][made["mask"] == 0] == 0).all()
    assert (made["ids"][:, 0] == 2).all()
    assert [str(one) for one in step.outputs({"from": TEXTS})] == ["int64[batch,*tokens]"] * 3
    alone = step.run({"from": packed("hot")})
    np.testing.assert_array_equal(alone["ids"][0], made["ids"][0, : lengths[0]])


def test_filling_up_further(file: Path):
    texts = {"from": packed("hot", "the pump")}
    assert work(file, multiple=8).run(texts)["ids"].shape == (2, 8)
    assert work(file, multiple=48).run(texts)["ids"].shape == (2, 16)
    whole = work(file, pad="length")
    assert whole.run(texts)["ids"].shape == (2, 16)
    assert str(whole.outputs({"from": TEXTS})[0]) == "int64[batch,16]"


def test_never_on_the_loop(file: Path):
    """A long text holds a thread for tens of milliseconds, and a bad pattern for longer."""
    assert work(file).is_slow


def test_one_text_alone_and_none_at_all(file: Path):
    step = work(file)
    one = TensorSpec("from", "uint8", ("characters",))
    assert str(step.outputs({"from": one})[0]) == "int64[1,*tokens]"
    assert step.run({"from": packed("hot")[0]})["ids"].shape[0] == 1
    assert step.run({"from": np.zeros((0, 1), np.uint8)})["ids"].shape == (0, 1)
    assert work(file, special=False).run({"from": packed("")})["mask"].tolist() == [[0]]


def test_pairs(file: Path):
    step = work(file, pair="q")
    made = step.run({"from": packed("hot", "is it"), "pair": packed("loud", "not")})
    assert made["types"].max() == 1
    with pytest.raises(FieldError, match=r"tokens\.pair: .*does not pair with uint8"):
        step.outputs({"from": TEXTS, "pair": TensorSpec("pair", "uint8", ("n", "c"))})


def test_filled_up_on_the_left(tmp_path: Path):
    padding = {
        "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 5, "pad_type_id": 3, "pad_token": "x",
    }  # fmt: skip
    path = write_token_file(tmp_path / "t.json", padding=padding)
    made = work(path, pad="length").run({"from": packed("hot")})
    assert made["ids"][0, 0] == 5
    assert made["types"][0, 0] == 3
    assert made["ids"][0, -1] == 3
    assert made["mask"][0, -1] == 1


@pytest.mark.parametrize(
    "spec",
    [("int8", ("n", "c")), ("uint8", ("a", "b", "c")), ("uint8", ()), ("uint8", ("batch",))],
)
def test_no_texts(file: Path, spec):
    with pytest.raises(FieldError, match=r"tokens\.from: .*expected texts, uint8\[n,characters\]"):
        work(file).outputs({"from": TensorSpec("from", *spec)})


def test_settings(file: Path):
    with pytest.raises(FieldError, match=r"tokens\.multiple: belongs to pad: longest"):
        work(file, pad="length", multiple=8)
    with pytest.raises(FieldError, match=r"tokens\.max_bytes: is 5000000; the limit is 262144"):
        work(file, max_bytes=Size(5_000_000))


def test_in_a_pipeline_also_without_the_package(tmp_path: Path, monkeypatch):
    write_token_file(tmp_path / "t.json")
    axes = ("batch", "words")
    encoder = make_manifest(
        [("ids", "int64", axes), ("mask", "int64", axes)], [("y", "float32", (*axes, 4))]
    )
    text = f"""\
    inputs: {{text: "uint8[batch,characters]"}}
    steps:
    - {{name: t, tokens: {{from: text, file: {tmp_path}/t.json, length: 8}}}}
    - {{name: m, model: m, inputs: {{ids: t.ids, mask: t.mask}}}}
    - name: mean
      compute: "sum(m * expand(float32(t.mask), axis=2), axis=1) / expand(float32(sum(t.mask, axis=1)), axis=1)"
    outputs: {{vector: mean}}
"""
    plan, problems = planned(text, m=encoder)
    assert not problems
    assert str(plan.outputs[0]) == "float32[batch,4]"
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setattr("edged.pipelines.token_file._open", {})
    _, problems = planned(text, m=encoder)
    assert [path for path, _ in problems] == ["pipelines.p.steps[0].tokens"]
    assert 'pip install "edged[text]"' in problems[0][1]


def of_embed() -> str:
    """The pipeline of the page, without what is around it."""
    return example("text.md", "Text in, vector out").partition("  embed:\n")[2]


@on_loop
async def test_the_page_about_text(tmp_path: Path, monkeypatch):
    """Each text gets what it would get alone, whatever else is asked with it; runs are shared."""
    write_token_file(tmp_path / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    axes = ("batch", "words")
    table = np.random.default_rng(3).normal(size=(256, 4)).astype(np.float32)
    encoder = model(
        lambda given: {"y": table[given["ids"]]},
        [("ids", "int64", axes), ("mask", "int64", axes)],
        [("y", "float32", (*axes, 4))],
        ns=10**9,
    )
    site = Site(of_embed(), encoder=encoder)
    session, release = site.sessions["encoder"], site.releases["encoder"]
    gate = session.gate = threading.Event()
    texts = [*SENTENCES, "", "hot", "is", "hot " * 200]
    asked = [ask(site, {"text": packed(text)})[0] for text in texts]
    await until(lambda: sum(session.runs) + len(release.backlog.items) == len(texts))
    gate.set()
    await until(lambda: all(asked))
    step = work(tmp_path / "tokenizer.json", length=256)
    for text, answers in zip(texts, asked, strict=True):
        mean = table[step.run({"from": packed(text)})["ids"][0]].mean(axis=0)
        vector = answers.only.outputs["vector"][0]
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)
    assert len(session.runs) < len(texts)
    assert sum(session.runs) == len(texts)


@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"ok\xff", r"text 0 is not UTF-8 \(byte 2\)"),
        (b"\xed\xa0\x80", r"text 0 is not UTF-8 \(byte 0\)"),  # half of a pair
        (b"\xc0\xaf", "not UTF-8"),  # a slash in too many bytes
        (b"a" * 65, r"text 0 has 65 bytes; the limit is 64 \(max_bytes\)"),
    ],
)
def test_what_is_no_text(data: bytes, said: str):
    with pytest.raises(ValueError, match=said):
        texts_of(pack_texts([data]), 64)


@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
def test_what_is_too_much_together(file: Path, monkeypatch):
    rows = np.full((65, 1 << 16), 97, np.uint8)
    assert len(texts_of(rows[:64], 1 << 16)) == 64
    with pytest.raises(ValueError, match="more than 4194304 bytes together; send them apart"):
        texts_of(rows, 1 << 16)
    monkeypatch.setattr("edged.pipelines.tokens.MOST_GROWN", 95)
    step = work(file, pad="length")
    step.run({"from": packed(*["a"] * 5)})
    with pytest.raises(ValueError, match=r"would make \[6,16\] tokens; the limit is 95 in all"):
        step.run({"from": packed(*["a"] * 6)})


def test_zeros_within_are_kept():
    assert texts_of(pack_texts([b"a\0b\0", b"longer"]), 64) == ["a\0b", "longer"]


@pytest.mark.hostile("H9 texts of half a character, another code, zeros within, or megabytes")
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text() | st.sampled_from(SENTENCES), min_size=1, max_size=4))
def test_any_texts(file: Path, texts: list[str]):
    step = work(file)
    made = step.run({"from": packed(*texts)})
    assert {array.shape for array in made.values()} == {made["ids"].shape}
    assert all(array.dtype == DTYPES["int64"].numpy for array in made.values())
    assert made["ids"].shape[0] == len(texts)
    assert 2 <= made["ids"].shape[1] <= 16
    assert made["ids"].min() >= 0
    for text, ids, mask in zip(texts, made["ids"], made["mask"], strict=True):
        alone = step.run({"from": packed(text)})
        np.testing.assert_array_equal(alone["ids"][0], ids[mask == 1])
