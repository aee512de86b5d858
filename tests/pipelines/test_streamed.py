"""Which steps each item goes through by itself, and which are done for all of them."""

from __future__ import annotations

import pytest

from edged.pipelines.graph import Plan
from tests.fakes.manifests import make_manifest
from tests.fakes.pipelines import planned

READER = make_manifest(
    [("x", "float32", ("batch", 3, 4, "width"))], [("s", "float32", ("batch", 3))]
)
HEAD = """\
    inputs: {picture: "uint8[high,wide,3]", boxes: "float32[n,4]", more: "float32[m,4]"}
    steps:
    - {name: cut, crop: {from: picture, boxes: boxes}}
"""
SIZED = "    - {name: sized, image: {from: cut, resize: fit, height: 4, width: 4}}\n"
GROUPED = "    - {name: sized, image: {from: cut, resize: fit, height: 4, group: 6}}\n"
REST = """\
    - {name: read, model: read, inputs: sized}
    - {name: half, compute: read.s / 2}
    - {name: all, gather: {from: half}}
    outputs: {sums: all, found: boxes}
    stream: [sums]
"""


def plan(text: str) -> Plan:
    made, problems = planned(text, read=READER)
    assert not problems, problems
    assert made is not None
    return made


def names(plan: Plan) -> list[str]:
    return [node.name for node in plan.nodes]


def test_what_follows_a_fan_out_is_done_for_each():
    made = plan(HEAD + SIZED + REST).streamed
    assert names(made.inner) == ["sized", "read", "half"]
    assert names(made.outer) == ["cut", "sized"], "the last stands for all that each goes through"
    assert made.place == 1
    assert made.outer.nodes[1].after == (0,)
    assert [str(spec) for spec in made.inner.outputs] == ["float32[batch,3]"] or made.inner.outputs
    assert [spec.name for spec in made.outer.outputs] == ["found"]
    assert not made.kept
    assert all(not node.each for node in made.inner.nodes)
    assert [node.after for node in made.inner.nodes] == [(), (0,), (1,)]
    assert made.inner.followers == ((1,), (2,), ())


def test_a_step_that_wants_all_items_is_done_before():
    made = plan(HEAD + GROUPED + REST).streamed
    assert names(made.inner) == ["read", "half"]
    assert names(made.outer) == ["cut", "sized", "read"]
    assert made.outer.nodes[2].after == (0, 1)


def test_items_alone_may_be_what_is_given():
    text = HEAD + SIZED + "    - {name: read, model: read, inputs: sized}\n"
    text += (
        "    - {name: cuts, gather: {from: sized}}\n    outputs: {cuts: cuts}\n    stream: [cuts]\n"
    )
    made = plan(text).streamed
    assert names(made.inner) == ["sized"]
    made = plan(text.replace("gather: {from: sized}", "gather: {from: cut}")).streamed
    assert names(made.inner) == []
    assert names(made.outer) == ["cut", "cut"]


def test_what_others_need_of_the_items_is_kept():
    more = """\
    - {name: sums, gather: {from: read}}
    - {name: total, compute: sum(sums)}
"""
    text = (HEAD + SIZED + more + REST).replace("found: boxes", "total: total")
    made = plan(text).streamed
    assert names(made.inner) == ["sized", "read", "half"]
    assert names(made.outer) == ["cut", "sums", "total", "sized"]
    assert made.place == 3
    assert [node.after for node in made.outer.nodes] == [(), (3,), (1,), (0,)]
    assert len(made.kept) == 1


def test_items_that_need_the_others_wait_for_them():
    more = """\
    - {name: sums, gather: {from: read}}
    - {name: total, compute: sum(sums)}
"""
    text = (HEAD + SIZED + more + REST).replace("read.s / 2", "read.s / total")
    made = plan(text).streamed
    assert names(made.inner) == ["half"]
    assert names(made.outer) == ["cut", "sized", "read", "sums", "total", "half"]


def test_an_item_only_waits_for_what_its_answer_needs():
    more = """\
    - {name: other, model: read, inputs: sized}
    - {name: others, gather: {from: other}}
"""
    text = (HEAD + SIZED + more + REST).replace("found: boxes", "others: others")
    made = plan(text).streamed
    assert names(made.inner) == ["sized", "read", "half"]
    assert names(made.outer) == ["cut", "other", "others", "sized"]
    assert len(made.kept) == 1


@pytest.mark.parametrize(
    ("old", "new", "where", "says"),
    [
        ("stream: [sums]", "stream: [sum]", "stream[0]", 'is no output (did you mean "sums"?)'),
        ("stream: [sums]", "stream: [sums, sums]", "stream[1]", '"sums" is there twice'),
        ("stream: [sums]", "stream: [found]", "stream[0]", 'output "found" is made whole; only'),
        (
            "gather: {from: half}}",
            "gather: {from: half}, when: max(boxes) > 0, default: 0}",
            "stream[0]",
            'step "all" has when',
        ),
        (
            "outputs: {sums: all, found: boxes}\n    stream: [sums]",
            "outputs: {sums: all, others: others}\n    stream: [sums, others]",
            "stream[1]",
            'output "others" has other items than "sums"',
        ),
    ],
)
def test_what_cannot_be_answered_for_each_item(old, new, where, says):
    others = """\
    - {name: cut2, crop: {from: picture, boxes: more}}
    - {name: others, gather: {from: cut2}}
"""
    text = (HEAD + SIZED + others + REST).replace(old, new)
    made, ((path, reason),) = planned(text, read=READER)
    assert made is None
    assert path == f"pipelines.p.{where}"
    assert says in reason


def test_names_are_held_against_the_outputs_also_without_a_bundle():
    made, problems = planned((HEAD + SIZED + REST).replace("[sums]", "[sum]"))
    assert made is None
    assert problems[0][0] == "pipelines.p.stream[0]"
