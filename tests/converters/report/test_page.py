import re
from html.parser import HTMLParser

import msgspec
import pytest

from converters.gate.checks import Check
from converters.report.evidence import (
    ArtefactEvidence,
    Evidence,
    Latency,
    OutputEvidence,
    StepEvidence,
    WorstRow,
)
from converters.report.numbers import BINS
from converters.report.page import render
from converters.sources.base import Remedy

OUTPUT = OutputEvidence(
    name="p", rows=9, max_abs=1e-4, max_rel=None, rows_beyond=0, label_agreement=0.5,
    is_constant=True, bins=BINS, counts=(8, 1, *([0] * (len(BINS) - 2))),
    worst=(WorstRow(row=4, framework=(0.25, None), converted=(0.5, 1.0), max_abs=None, share=None),),
)  # fmt: skip
ARTEFACT = ArtefactEvidence(
    file="model.onnx", precision="float32", size_bytes=46_700_000, weights_bytes=1, opset=18,
    nodes={"Conv": 20}, max_abs=2e-7, label_agreement=1.0,
    latency=(Latency(1, 31.2), Latency(8, 214.0)),
)  # fmt: skip
EVIDENCE = Evidence(
    bundle={"name": "net", "release": 3, "digest": "d" * 64, "size_bytes": 46_800_000},
    manifest={
        "parity": {"grade": "verified", "reference": "forward", "rtol": 1e-4},
        "provenance": {"converter": "edged-convert", "framework": {"torch": "2.13"}, "target": {"name": "cpu"}},
    },
    signature={"inputs": ("x float32[batch,3]",), "outputs": ("p float32[batch,2]",)},
    data="samples",
    outputs=(OUTPUT,),
    checks=(Check("rows", "passed", "fine", 0.5), Check("empty environment", "not checked", "no network")),
    remedies=(Remedy(trap="scaler-division", what="divides", where="scale"),),
    warnings=("deprecated",),
    artefacts=(ARTEFACT, msgspec.structs.replace(ARTEFACT, file="model-int8.onnx", precision="int8", size_bytes=11_800_000, label_agreement=0.99)),
    steps=(StepEvidence("converting with torch", 4.5, 900 << 20),),
    machine={"processor": "a processor", "cores": "2"},
)  # fmt: skip


class Page(HTMLParser):
    """Tags in order, whether they close as they opened, and the text."""

    VOID = ("meta", "rect", "line")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.problems = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.problems.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_says_everything_and_closes_what_it_opens():
    page = Page(render(EVIDENCE))
    assert not page.problems
    assert not page.open
    text = " ".join(" ".join(page.text).split())
    for words in (
        "net release 3", "verified", "NOT CHECKED", "no network", "scaler-division", "deprecated",
        "the framework gives the same for every row", "same best class 99.0%", "11.8 MB",
        "1: 31.2 ms", "8: 214 ms", "26.8 ms", "4.50 s", "0.25, not finite", "beyond", "Conv 20",
    ):  # fmt: skip
        assert words in text, words
    assert sum(tag == "svg" for tag, _ in page.tags) == 5


def test_nothing_is_fetched_and_nothing_runs():
    text = render(EVIDENCE)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href", "onload"} & attributes.keys() for _, attributes in page.tags)
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = [a for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("where", ["output", "file", "warning", "provenance", "check"])
def test_names_from_a_bundle_are_text(where):
    evil = "</title><script>alert(1)</script>\"'"
    changes = {
        "output": {"outputs": (msgspec.structs.replace(OUTPUT, name=evil),)},
        "file": {"artefacts": (msgspec.structs.replace(ARTEFACT, file=evil, nodes={evil: 1}),)},
        "warning": {"warnings": (evil,)},
        "provenance": {"manifest": {"parity": {"grade": evil}, "provenance": {evil: {evil: evil}}}},
        "check": {"checks": (Check(evil, "remark", evil),)},
    }[where]
    page = Page(render(msgspec.structs.replace(EVIDENCE, **changes)))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert evil in "".join(page.text) or evil in str(page.tags)


def test_a_report_of_a_bundle_alone_says_that_the_checks_are_elsewhere():
    bare = msgspec.structs.replace(
        EVIDENCE, checks=(), steps=(), remedies=(), warnings=(), data="golden"
    )
    text = render(bare)
    assert "made from the bundle alone" in text
    assert "golden rows in the bundle" in text
    assert "The conversion" not in text
    assert not re.search(r"<h2>Repaired", text)


def test_a_part_of_a_row_is_not_shown_as_the_whole():
    assert "values that differ most" not in render(EVIDENCE)
    long = WorstRow(row=4, framework=(0.25,) * 8, converted=(0.5,) * 8, max_abs=0.25, share=0.1)
    outputs = (msgspec.structs.replace(OUTPUT, worst=(long,)),)
    page = render(msgspec.structs.replace(EVIDENCE, outputs=outputs))
    assert "Of each row, the 8 values that differ most, in their order." in page
