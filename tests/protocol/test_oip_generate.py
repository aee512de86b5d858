"""Names and values in, names and values out; texts under the words that their clients use."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edged import generating
from edged.errors import EdgedError, InvalidRequestError, TooLargeError
from edged.generating import Piece
from edged.messages import InferResponse, SequenceStep
from edged.protocol.oip_generate import Generate, decode_generate, encode_generated
from edged.tensors import TensorSpec, check_tensors, to_bfloat16

CAP = 1 << 20
ROWS = TensorSpec("x", "float32", ("batch", 2))
WORDS = TensorSpec("words", "string", ("batch", "count"))
ONE = TensorSpec("one", "int64", ())


def asked(document: Any, *specs: TensorSpec, text: bool = False, cap: int = CAP) -> Generate:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_generate(data, specs or (ROWS,), cap, makes_text=text)


def text_of(document: Any) -> generating.Ask:
    """What a model that makes texts is asked."""
    found = asked(document, *generating.INPUTS, text=True)
    check_tensors(generating.INPUTS, found.inputs, "story")
    return generating.read_request(found.inputs["request"].tobytes())


@pytest.mark.parametrize(
    ("spec", "value", "shape"),
    [
        (ROWS, [1, 2], (1, 2)),
        (ROWS, [1, 2, 3, 4], (2, 2)),
        (ROWS, [[1, 2], [3, 4]], (2, 2)),
        (ROWS, [], (0, 2)),
        (WORDS, "a", (1, 1)),
        (WORDS, ["a", "b", "c"], (1, 3)),
        (WORDS, [["a"], ["b"]], (2, 1)),
        (ONE, 7, ()),
        (ONE, [7], ()),
        (TensorSpec("x", "float32", ("batch", 2, "length")), [1, 2, 3, 4], (1, 2, 2)),
        (TensorSpec("x", "bool", ("count",)), [True, False], (2,)),
        (TensorSpec("x", "uint8", (3,)), [1, 2, 255], (3,)),
    ],
)
def test_values_get_the_shape_of_the_model(spec: TensorSpec, value: Any, shape: Any) -> None:
    array = asked({spec.name: value}, spec).inputs[spec.name]
    assert array.shape == shape
    flat = np.array(value).reshape(-1).tolist()
    got = array.reshape(-1).tolist()
    assert [one.decode() if isinstance(one, bytes) else one for one in got] == flat
    if array.size:
        check_tensors((spec,), {spec.name: array}, "m")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"x": [1, 2, 3]}, r"do not fill it, nor whole rows"),
        ({"x": 1}, "1 values do not fill it"),
        ({"x": [[1, 2], [3]]}, "Unable to parse data"),
        ({"x": [[[1, 2]]]}, "nested 3 deep"),
        ({"x": {"a": 1}}, "Unable to parse data"),
        ({"x": None}, "Unable to parse data"),
        ({"x": ["a", "b"]}, "Unable to parse data"),
        ({"x": [1e39, 1]}, "out of range"),
        ({"y": [1, 2]}, r'unknown field `y`; expected a JSON object with any of "x", "id", "par'),
        ({"x": [1, 2], "stream": True}, "unknown field `stream`"),
        ({"x": [1, 2], "id": 7}, '"id"'),
        ({"x": [1, 2], "id": "i" * 2000}, "may have 1024 characters"),
        ({"x": [1, 2], "parameters": []}, '"parameters"'),
        ({"x": [1, 2], "parameters": {"timeout": -1}}, "parameters.timeout"),
        ({"x": [1, 2], "parameters": {"timeout": [1]}}, "parameters.timeout"),
        (b"", "Unable to parse the request"),
        (b"[]", "Unable to parse the request"),
        (b'{"x": [1, 2]', "Unable to parse the request"),
        (b'{"x": [NaN, 2]}', "Unable to parse"),
        (b"\xff", "Unable to parse the request"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "Unable to parse"),
    ],
)
def test_refused(document: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        asked(document)


def test_halves_have_no_form() -> None:
    with pytest.raises(InvalidRequestError, match="FP16 has no form in JSON"):
        asked({"x": [1]}, TensorSpec("x", "float16", ("batch",)))


def test_a_name_that_goes_on_is_not_told_whole() -> None:
    with pytest.raises(InvalidRequestError) as told:
        asked({"y" * 100_000: 1})
    assert len(told.value.message) < 500


@pytest.mark.hostile("B21 an object of a million names, or a list that grows, for generate")
@pytest.mark.parametrize(
    ("spec", "body"),
    [
        (TensorSpec("x", "float64", ("n",)), b'{"x":[' + b"1," * 200_000 + b"1]}"),
        (TensorSpec("x", "string", ("n",)), b'{"x":[' + b'"",' * 200_000 + b'""]}'),
    ],
)
def test_what_would_grow_is_refused_before_it_does(spec: TensorSpec, body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        asked(body, spec)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(body)


@pytest.mark.hostile("B21 an object of a million names, or a list that grows, for generate")
@pytest.mark.parametrize("inside", [False, True])
def test_a_million_names_take_no_memory(inside: bool) -> None:
    many = b"{" + b",".join(b'"n%d":1' % at for at in range(100_000)) + b"}"
    body = b'{"x":[1,2],"parameters":' + many + b"}" if inside else many
    tracemalloc.start()
    with pytest.raises(InvalidRequestError):
        asked(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(body)


def test_what_goes_with_a_request() -> None:
    parameters = {"timeout": 1500, "sequence_id": 4, "sequence_start": True, "priority": 1, "a": 2}
    found = asked({"id": "mine", "x": [1, 2], "parameters": parameters})
    assert (found.id, found.timeout_us) == ("mine", 1500)
    assert found.sequence == SequenceStep(4, start=True)


def test_inputs_may_have_the_names_of_members() -> None:
    specs = [TensorSpec(name, "string", ("n",)) for name in ("id", "parameters")]
    found = asked({"id": "a", "parameters": ["b"]}, *specs)
    assert found.id == ""
    assert [found.inputs[spec.name].tolist() for spec in specs] == [[b"a"], [b"b"]]


def test_an_input_left_out_is_the_dataplanes_to_refuse() -> None:
    assert asked({}).inputs == {}


class TestTexts:
    def test_the_words_of_triton_and_those_of_ours(self) -> None:
        ours = text_of({"prompt": "hot", "max_new_tokens": 5, "seed": 3, "stop": ["a", "b"]})
        theirs = {"text_input": "hot", "max_tokens": 5, "random_seed": 3, "stop_words": ["a", "b"]}
        assert text_of(theirs) == ours
        prompt = theirs.pop("text_input")
        assert text_of({"text_input": prompt, "parameters": theirs}) == ours

    def test_what_tutorials_send(self) -> None:
        """Of servers for TensorRT-LLM, and for vLLM."""
        found = text_of({"text_input": "hot", "max_tokens": 20, "bad_words": "", "stop_words": ""})
        assert found == generating.Ask("hot", 20)
        more = {"stream": False, "temperature": 0, "exclude_input_in_output": True}
        assert text_of({"text_input": "hot", "parameters": more}) == generating.Ask("hot")
        assert text_of({"text_input": "hot", "stop": "."}).stop == (".",)

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            ({"text_input": "a", "prompt": "b"}, '"prompt" is given twice'),
            ({"text_input": "a", "max_tokens": 1, "parameters": {"max_tokens": 2}}, "given twice"),
            ({"text_input": "a", "temprature": 1}, "unknown field `temprature`"),
            ({"text_input": "a", "parameters": {"temprature": 1}}, 'no option "temprature"; there'),
            ({"text_input": "a", "temperature": "hot"}, "temperature"),
            ({"text_input": "a", "bad_words": ["b"]}, '"bad_words" is served as "" or'),
            ({"text_input": "a", "stream": 3}, '"stream" is served as'),
            ({"text_input": ["a", "b"]}, "prompt"),
            ({"text_input": ""}, "prompt"),
            ({}, "prompt"),
            ({"text_input": "a" * (2 << 20)}, "prompt"),
            (b'{"text_input": "\xff"}', "takes JSON"),
        ],
    )
    def test_refused(self, document: Any, words: str) -> None:
        with pytest.raises(InvalidRequestError, match=words):
            text_of(document)

    def test_parameters_of_the_request_are_no_options(self) -> None:
        document = {"text_input": "a", "id": "mine", "parameters": {"timeout": 5, "top_k": 2}}
        found = asked(document, *generating.INPUTS, text=True)
        assert (found.id, found.timeout_us) == ("mine", 5)

    def test_answers(self) -> None:
        question = Generate("mine", {}, makes_text=True)
        pieces = generating.tensors([Piece(" ä", 7), Piece("b", 8)])
        assert told(question, pieces) == {
            "id": "mine", "model_name": "m", "model_version": "3", "text_output": " äb",
            "tokens": [7, 8],
        }  # fmt: skip
        end = generating.tensors([Piece("", None, "eos")])
        answer = told(question, end)
        assert (answer["text_output"], answer["tokens"], answer["finish"]) == ("", [], "eos")


def told(question: Generate, outputs: Any) -> dict[str, Any]:
    return json.loads(encode_generated(question, InferResponse("m", 3, 1, outputs)))


class TestAnswers:
    @pytest.mark.parametrize(
        ("array", "value"),
        [
            (np.float32([[1.5]]), 1.5),
            (np.float32([[1.5, 2], [3, 4]]), [1.5, 2, 3, 4]),
            (np.float32([]), []),
            (np.array([True]), True),
            (np.array([b"\xc3\xa4"], object), "ä"),
            (np.int64([-(2**62)]), -(2**62)),
        ],
    )
    def test_one_value_stands_for_itself(self, array: Any, value: Any) -> None:
        assert told(Generate("", {}, makes_text=False), {"y": array}) == {
            "model_name": "m", "model_version": "3", "y": value,
        }  # fmt: skip

    def test_what_json_has_no_word_for(self) -> None:
        question = Generate("", {}, makes_text=False)
        assert np.isnan(told(question, {"y": np.float32([np.nan])})["y"])
        assert told(question, {"y": np.float32([np.inf, 1])})["y"] == [float("inf"), 1]
        for array in (np.float16([1]), to_bfloat16(np.float32([1]))):
            with pytest.raises(InvalidRequestError, match="no form in JSON"):
                told(question, {"y": array})


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]":,x1id parmetsu\\', max_size=80).map(str.encode),
    st.booleans(),
)
def test_whatever_comes_is_taken_or_refused(data: bytes, text: bool) -> None:
    specs = generating.INPUTS if text else (ROWS,)
    with contextlib.suppress(EdgedError):
        asked(data, *specs, text=text)
