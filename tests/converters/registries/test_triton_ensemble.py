"""Ensembles: the direction of maps, order by data, one producer, no circle, the same numbers."""

import numpy as np
import pytest

from converters.errors import UnsupportedModelError
from converters.registries.triton_ensemble import fuse, read_steps
from converters.registries.triton_model import read_model
from converters.session import open_session


def step(model, inputs, outputs, version=-1):
    maps = [
        f'{kind}_map {{ key: "{key}" value: "{value}" }}'
        for kind, pairs in (("input", inputs), ("output", outputs))
        for key, value in pairs.items()
    ]
    return f'{{ model_name: "{model}" model_version: {version} {" ".join(maps)} }}'


def ensemble(repository, *steps, inputs=("IN",), outputs=("OUT",)):
    ends = "".join(f'input {{ name: "{n}" data_type: TYPE_FP32 dims: 4 }}' for n in inputs)
    ends += "".join(f'output {{ name: "{n}" data_type: TYPE_FP32 dims: 2 }}' for n in outputs)
    listed = ", ".join(steps)
    repository(
        "e",
        f'platform: "ensemble" max_batch_size: 8 {ends} ensemble_scheduling {{ step [ {listed} ] }}',
    )
    return read_model(repository.root, "e")


FIRST = step("first", {"x": "IN"}, {"y": "mid"}, 3)
SECOND = step("second", {"a": "mid"}, {"b": "OUT"})


def test_the_order_is_decided_by_the_data(repository):
    for listed in ((FIRST, SECOND), (SECOND, FIRST)):
        model = ensemble(repository, *listed)
        steps = read_steps(model)
        assert [(s.model, s.version) for s in steps] == [("first", 3), ("second", -1)]
        assert steps[0].inputs == {"x": "IN"}
        __import__("shutil").rmtree(repository.root / "e")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((), "0 steps"),
        ((FIRST, step("x", {"a": "IN"}, {"b": "mid"}), SECOND), '"mid" is made twice'),
        ((step("x", {"a": "IN"}, {"b": "IN"}),), '"IN" is made twice: by the ensemble\'s input'),
        ((SECOND,), 'needs "mid" for its input "a", which no step makes'),
        # The maps the wrong way round: the ensemble's tensor as the key.
        ((step("first", {"IN": "x"}, {"mid": "y"}), SECOND), "the key is the step's tensor"),
        ((FIRST,), 'output "OUT" is made by no step'),
        (
            (step("p", {"a": "q"}, {"b": "OUT"}), step("q", {"a": "OUT"}, {"b": "q"})),
            "p, q wait for each other",
        ),
    ],
)
def test_a_flow_that_is_none_is_refused_by_the_tensor(repository, steps, words):
    with pytest.raises(UnsupportedModelError, match=words):
        read_steps(ensemble(repository, *steps))


def test_one_graph_gives_what_the_steps_give(repository, dense):
    first, second = dense(4, 3), dense(3, 2, names=("a", "b"), opset=18, seed=1)
    model = ensemble(repository, SECOND, FIRST)
    steps = read_steps(model)
    graph = fuse(model, steps, {0: first, 1: second})
    rows = np.random.default_rng(2).normal(size=(5, 4)).astype("f4")
    mid = open_session(first.SerializeToString())({"x": rows})["y"]
    want = open_session(second.SerializeToString())({"a": mid})["b"]
    got = open_session(graph.SerializeToString())({"IN": rows})["OUT"]
    np.testing.assert_array_equal(got, want)


def test_a_tensor_may_feed_two_steps_and_an_output(repository, dense):
    left = step("left", {"x": "mid"}, {"y": "OUT"})
    right = step("left", {"x": "mid"}, {"y": "OTHER"})
    front = step("front", {"x": "IN"}, {"y": "mid"})
    model = ensemble(repository, left, right, front, outputs=("OUT", "OTHER", "mid"))
    steps = read_steps(model)
    graph = fuse(model, steps, {0: dense(4, 4), 1: dense(4, 2, seed=1), 2: dense(4, 2, seed=2)})
    got = open_session(graph.SerializeToString())({"IN": np.ones((2, 4), "f4")})
    assert {name: array.shape for name, array in got.items()} == {
        "OUT": (2, 2), "OTHER": (2, 2), "mid": (2, 4)
    }  # fmt: skip


def test_maps_that_do_not_fit_the_members(repository, dense):
    wrong = step("first", {"z": "IN"}, {"y": "OUT"})
    model = ensemble(repository, wrong)
    with pytest.raises(UnsupportedModelError, match='"first" has no tensor "z"'):
        fuse(model, read_steps(model), {0: dense(4, 2)})


def test_an_input_of_a_member_that_nobody_feeds(repository, dense):
    from onnx import helper

    graph = dense(4, 2)
    graph.graph.input.append(helper.make_tensor_value_info("u", 1, ["N", 1]))
    model = ensemble(repository, step("first", {"x": "IN"}, {"y": "OUT"}))
    with pytest.raises(UnsupportedModelError, match='nothing is mapped to its input "u"'):
        fuse(model, read_steps(model), {0: graph})
