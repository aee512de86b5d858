"""Plans as tables: what is made of a graph, and each way in which one can be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.manifests import make_manifest
from tests.fakes.pipelines import planned

ONE = make_manifest([("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 3))])
TWO = make_manifest(
    [("a", "float32", ("batch", 3)), ("b", "int64", ("batch",))],
    [("s", "float32", ("batch",)), ("all", "float32", ("n", 3))],
)
WHOLE = make_manifest([("p", "float32", (1, 3, "h", "w"))], [("m", "float32", (1, 1, "h", "w"))])
MODELS = {"one": ONE, "two": TWO, "whole": WHOLE}
HEAD = '    inputs: {x: "float32[batch,4]", n: "int64[batch]", image: "uint8[high,wide,3]"}\n'


def of(steps: str, outputs: str = "y: a", inputs: str = HEAD, **models):
    body = "".join(f"    - {{{line.strip()}}}\n" for line in steps.strip().splitlines())
    return planned(f"{inputs}    steps:\n{body}    outputs: {{{outputs}}}\n", **(models or MODELS))


def test_the_data_decides_the_order():
    plan, problems = of(
        "name: end, model: two, inputs: {a: a, b: n}\n"
        "name: also, compute: a + b\n"
        "name: a, model: one, inputs: x\n"
        "name: b, compute: a * 2",
        "s: end.s, t: also",
    )
    assert not problems
    assert [node.name for node in plan.nodes] == ["a", "end", "b", "also"]
    assert [node.after for node in plan.nodes] == [(), (0,), (0,), (0, 2)]
    assert plan.followers == ((1, 2, 3), (), (3,), ())
    assert [f"{spec.name} {spec}" for spec in plan.outputs] == [
        "s float32[batch]", "t float32[batch,3]",
    ]  # fmt: skip
    assert [one.model for one in plan.members] == ["two", "one"]


TYPES = {
    "name: a, model: one, inputs: x": "float32[batch,3]",
    "name: a, compute: x > n": None,
    "name: a, compute: 'max(x, axis=1) > 0'\nname: m, model: one, inputs: x": "bool[batch]",
    "name: i, image: {from: image, scale: 0.5}\nname: a, model: whole, inputs: i": (
        "float32[1,1,high,wide]"
    ),
    "name: i, image: {from: image, resize: multiple}\nname: a, model: whole, inputs: i": (
        "float32[1,1,i_height,i_width]"
    ),
    "name: i, image: {from: image, resize: stretch, width: 8, height: 6}\n"
    "name: a, model: whole, inputs: i": "float32[1,1,6,8]",
    "name: m, model: two, inputs: {a: o, b: n}\nname: o, model: one, inputs: x\n"
    "name: a, concat: {from: [m.all, m.all], axis: 0}": "float32[a_sum,3]",
    "name: m, model: two, inputs: {a: o, b: n}\nname: o, model: one, inputs: x\n"
    "name: a, select: {from: m.all, axis: 0}": "float32[m_n,3]",
}


@pytest.mark.parametrize("steps", [key for key in TYPES if TYPES[key]])
def test_types_are_known_before_anything_runs(steps: str):
    plan, problems = of(steps)
    assert not problems
    assert str(plan.outputs[0]) == TYPES[steps]


P = "pipelines.p."
WRONG = {
    "name: a, model: one, inputs: z": (
        "steps[0].inputs", 'nothing is named "z"; there are x, n, image, a'),
    "name: a, model: one, inputs: a": (
        "steps", "wait for each other: a; a step cannot use what follows from it"),
    "name: a, model: one, inputs: n": (
        "steps[0].inputs",
        'is int64[batch]; model "one" wants float32[batch,4]; convert it with compute: float32(…)'),
    "name: a, model: one, inputs: {y: x}": (
        "steps[0].inputs.y", 'model "one" has no input "y"; it takes "x" float32[batch,4]'),
    "name: a, model: one": (
        "steps[0].inputs", 'model "one" also takes "x" float32[batch,4]; say from where'),
    "name: a, model: two, inputs: x": (
        "steps[0].inputs", 'model "two" takes a, b; write input: reference for each'),
    "name: a, model: two, inputs: {a: x}": (
        "steps[0].inputs", 'model "two" also takes "b" int64[batch]; say from where'),
    "name: x, model: one, inputs: x": (
        "steps[0].name", '"x" is the name of another step or input; names are unique'),
    "name: a, model: one, inputs: x\nname: b, compute: a.z": (
        "steps[1].compute", 'step "a" makes no "z"; it makes y'),
    "name: m, model: two, inputs: {a: a, b: n}\nname: a, model: one, inputs: x\n"
    "name: b, compute: m + 1": (
        "steps[2].compute", 'step "m" makes several; write one of m.s, m.all'),
    "name: a, compute: x +": ("steps[0].compute", "ends too early"),
    "name: a, compute: 1 + 1": ("steps[0].compute", "uses no value of the pipeline"),
    "name: a, compute: x * n": (
        "steps[0].compute", '"*": shapes [batch,4] and [batch] do not go together'),
    "name: a, compute: x * 2": ("steps", "ask no model; add a step with model:"),
    "name: a, select: {from: x, at: 4}": (
        "steps[0].select.at", "float32[batch,4] has no entry 4 on axis 1"),
    "name: a, select: {from: x, axis: 2}": (
        "steps[0].select.axis", "float32[batch,4] has 2 axes; there is no axis 2"),
    "name: a, select: {from: x, axis: 0, stop: 2}": (
        "steps[0].select.stop", "how many entries axis 0 of float32[batch,4] has is not known"),
    "name: a, select: {from: x, at: 1, stop: 2}": (
        "steps[0].select.at", "excludes start and stop"),
    "name: a, select: {from: x, start: 2, stop: 2}": ("steps[0].select.stop", "leaves nothing"),
    "name: a, concat: {from: [x, image]}": (
        "steps[0].concat.from[1]", "is uint8[high,wide,3], which cannot be joined"),
    "name: a, gather: {from: x}": (
        "steps[0].gather.from", "one tensor already; gather is for what follows a crop"),
    "name: a, image: {from: x}": (
        "steps[0].image.from", "is float32[batch,4]; expected uint8[height,width,3]"),
    "name: a, image: {from: image, resize: fit}": ("steps[0].image", "fit needs height: PIXELS"),
    "name: a, image: {from: image, mean: [1, 2]}": (
        "steps[0].image.mean", "has 2 values; expected 1 or 3"),
    "name: a, image: {from: image, std: [1, 0, 1]}": ("steps[0].image.std", "holds a zero"),
    "name: a, boxes: {boxes: image, scores: x}": (
        "steps[0].boxes.boxes", "expected float32[n,4] or [1,n,4]"),
    "name: a, first: [x, n]": ("steps[0].first[1]", "is int64[batch]; the one before is"),
    "name: a, model: one, inputs: x, when: x > 0": (
        "steps[0].when", "is bool[batch,4]; expected one truth"),
    "name: a, model: one, inputs: x, when: max(x)": (
        "steps[0].when", "is float32[]; expected one truth"),
    "name: a, model: one, inputs: x, default: 1": (
        "steps[0].default", "is for steps that may be skipped"),
    "name: a, compute: x, inputs: x": (
        "steps[0].inputs", "belong to model and use; compute says itself what it reads"),
    "name: a, compute: x, options: {k: 1}": ("steps[0].options", "belong to use"),
    "name: a": ("steps[0]", "needs exactly one of model, compute,"),
    "name: a, compute: x, first: [x]": ("steps[0]", "found: compute, first"),
    "name: a, use: nothing, inputs: x": (
        "steps[0].use", 'no installed package has a step "nothing"; installed: '),
    "name: a, ctc: {from: x, characters: /nowhere/c.txt}": (
        "steps[0].ctc.characters", "cannot read /nowhere/c.txt: No such file"),
}  # fmt: skip


@pytest.mark.parametrize("steps", WRONG)
def test_what_is_wrong_and_where(steps: str):
    _, problems = of(steps)
    path, text = WRONG[steps]
    assert [(P + path, text) for where, said in problems if where == P + path and text in said], (
        problems
    )


MISSING = "name: m, model: one, inputs: x, when: max(x) > 1\n"
CROP = (
    "name: m, model: one, inputs: x\n"
    "name: cut, crop: {from: image, boxes: box}\n"
    "name: box, compute: x * 1\n"
)
ENDS = {
    (MISSING + "name: a, compute: m * 2", "y: a"): 'may be missing, because step "m" has when',
    (MISSING + "name: a, first: [m], default: 0", "y: a"): "",
    (MISSING + "name: a, first: [m, o]\nname: o, model: one, inputs: x", "y: a"): "",
    (CROP, "y: cut"): 'for each item of "cut"; put them together with a gather step',
    (CROP + "name: a, gather: {from: cut}", "y: a"): "",
    (CROP + "name: a, gather: {from: i}\nname: i, image: {from: cut}", "y: a"): "",
    (CROP + "name: d, crop: {from: cut, boxes: box}", "y: m"): "a fan-out inside another",
    (CROP + "name: k, crop: {from: image, boxes: box}\nname: a, compute: cut + k", "y: m"): (
        'would be done for each item of "cut" and of "k", which do not pair'
    ),
    (CROP + "name: s, compute: cut * 2, when: max(cut) > 5\nname: a, gather: {from: s}", "y: a"): (
        'may be missing, because step "s" has when; give it a default or use first'
    ),
    (
        CROP + "name: s, compute: cut * 2, when: max(cut) > 5\nname: f, first: [s, cut]\n"
        "name: a, gather: {from: f}",
        "y: a",
    ): "",
    (CROP + "name: s, compute: x * 2, when: max(cut) > 5", "y: m"): (
        'is asked for each item of "cut", but the step is not done for each'
    ),
    ("name: a, model: one, inputs: x", "y: b"): 'nothing is named "b"',
    ("name: a, model: one, inputs: x", "y: x"): "",
}  # fmt: skip


@pytest.mark.parametrize(("steps", "outputs"), ENDS)
def test_conditions_and_items(steps: str, outputs: str):
    plan, problems = of(steps, outputs)
    wanted = ENDS[(steps, outputs)]
    assert any(wanted in said for _, said in problems) if wanted else not problems, problems
    assert (plan is None) == bool(wanted)


def test_a_model_without_a_bundle_is_no_second_problem():
    plan, problems = of("name: a, model: gone, inputs: x\nname: b, compute: a + x", "y: b", one=ONE)
    assert not problems
    assert len(plan.nodes) < 2


def test_one_problem_does_not_hide_another_nor_bring_more():
    _, problems = of(
        "name: a, compute: x +\nname: b, compute: a + 1\nname: c, compute: z\n"
        "name: m, model: one, inputs: x",
        "y: b, z: c",
    )
    assert [path for path, _ in problems] == [P + "steps[0].compute", P + "steps[2].compute"]


REFS = st.sampled_from(["x", "s0", "s1", "s2", "s3", "s4"])


@given(
    st.lists(st.tuples(st.sampled_from(["compute", "model", "first"]), REFS, REFS), min_size=1, max_size=5),
    REFS,
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_graph_is_ordered_or_refused(steps: list[tuple[str, str, str]], out: str):
    same = make_manifest([("x", "float32", ("batch", 4))], [("y", "float32", ("batch", 4))])
    lines = {
        "compute": "compute: {0} + {1}",
        "model": "model: one, inputs: {0}",
        "first": "first: [{0}, {1}]",
    }
    text = "\n".join(
        f"name: s{i}, {lines[kind].format(a, b)}" for i, (kind, a, b) in enumerate(steps)
    )
    plan, problems = of(text, f"y: {out}", '    inputs: {x: "float32[batch,4]"}\n', one=same)
    assert (plan is None) == bool(problems)
    if plan is None:
        return
    assert sorted(node.name for node in plan.nodes) == [f"s{i}" for i in range(len(steps))]
    for place, node in enumerate(plan.nodes):
        assert all(before < place for before in node.after)
        made = {slot for n in plan.nodes[:place] for _, slot in n.writes} | {0}
        assert {slot for _, slot in node.reads} <= made
