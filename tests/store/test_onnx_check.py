"""The look at an ONNX file: what reaches out of the bundle or is not whole is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edged.errors import EdgedError, ManifestError
from edged.manifest import TensorEntry
from edged.store import onnx_check
from edged.store.onnx_check import MESSAGES, check_onnx
from tests.models import all_models, double, external_tensor, onnx_bytes, with_external_data

MEMBERS = {"weights.data": 32}
X, Y = (TensorEntry(name, "float32", ("batch", 4)) for name in "xy")
LOCATIONS = [
    "../weights.data",
    "/etc/passwd",
    "sub/../../weights.data",
    "sub/weights.data",
    "./weights.data",
    "weights.data/",
    "weights.data\0",
    "WEIGHTS.DATA",
    "other.data",
    "",
    "*/_ORT_MEM_ADDR_/*",
    "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*",
]


def tensor(**entries: object) -> TensorProto:
    return external_tensor("k", TensorProto.FLOAT, [4], **entries)


def graph_with(value: TensorProto) -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [value])


def node_with(**attributes: object) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], **attributes)


def sparse(values: TensorProto, indices: TensorProto | None = None) -> onnx.SparseTensorProto:
    indices = indices or numpy_helper.from_array(np.zeros(1, "int64"))
    return helper.make_sparse_tensor(values, indices, [4])


def model(**parts: object) -> bytes:
    """A whole model with one more thing somewhere."""
    proto = onnx.load_from_string(double().data)
    graph = proto.graph
    for kind, value in parts.items():
        if kind == "initializer":
            graph.initializer.append(value)
        elif kind == "sparse_values":
            graph.sparse_initializer.append(sparse(value))
        elif kind == "sparse_indices":
            graph.sparse_initializer.append(sparse(numpy_helper.from_array(np.ones(1)), value))
        elif kind == "attribute":
            graph.node.append(node_with(value=value))
        elif kind == "attribute_list":
            graph.node.append(node_with(values=[value]))
        elif kind == "attribute_sparse":
            graph.node.append(node_with(sparse_value=sparse(value)))
        elif kind == "subgraph":
            graph.node.append(helper.make_node("If", ["c"], [], then_branch=graph_with(value)))
        elif kind == "subgraph_list":
            graph.node.append(helper.make_node("Scan", ["c"], [], bodies=[graph_with(value)]))
        elif kind == "deep":
            inner = graph_with(value)
            for _ in range(5):
                node = helper.make_node("Loop", ["c"], [], body=inner)
                inner = helper.make_graph([node], "inner", [], [])
            graph.node.append(helper.make_node("If", ["c"], [], then_branch=inner))
        elif kind == "function":
            body = helper.make_function(
                "f", "F", [], [], [node_with(value=value)], [helper.make_opsetid("", 17)]
            )
            proto.functions.append(body)
        elif kind == "function_default":
            body = helper.make_function("f", "F", [], [], [], [helper.make_opsetid("", 17)])
            body.attribute_proto.append(helper.make_attribute("t", value))
            proto.functions.append(body)
        elif kind == "training":
            proto.training_info.add().algorithm.CopyFrom(graph_with(value))
    return proto.SerializeToString()


PLACES = [
    "initializer",
    "sparse_values",
    "sparse_indices",
    "attribute",
    "attribute_list",
    "attribute_sparse",
    "subgraph",
    "subgraph_list",
    "deep",
    "function",
    "function_default",
    "training",
]


class TestGood:
    @pytest.mark.parametrize("tiny", all_models(), ids=lambda m: m.name)
    def test_models(self, tiny):
        check_onnx(tiny.data, {})

    def test_external_data_in_a_member(self):
        tiny, files = with_external_data()
        check_onnx(tiny.data, {name: len(data) for name, data in files.items()})

    @pytest.mark.parametrize("place", PLACES)
    def test_external_data_anywhere(self, place: str):
        """Negative control for the tests below: it is the location that they refuse."""
        check_onnx(model(**{place: tensor(location="weights.data", offset=16, length=16)}), MEMBERS)
        check_onnx(model(**{place: tensor(location="weights.data")}), MEMBERS)

    def test_a_forest_is_taken_in_runs(self):
        """A tree's numbers stand in one field each; reading them singly would take seconds."""
        n = 200_000
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["x"],
            ["y"],
            domain="ai.onnx.ml",
            nodes_values=[0.5] * n,
            nodes_nodeids=list(range(n)),
            post_transform="NONE",
        )
        data = onnx_bytes([node], [X], [Y])
        walk = onnx_check._Walk(data, {})
        walk.message("model", 0, len(data), 0)
        assert walk._count < 100


class TestExternalData:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("location", ["../weights.data", "/etc/passwd"])
    @pytest.mark.hostile(
        "G7 external data at ../, absolute, a link, sub/../..",
        "R24 a walk through the ONNX file before any runtime sees it",
    )
    def test_refused_wherever_it_is(self, place: str, location: str):
        """ONNX external data ../, absolute → refused by our check, on every ONNX Runtime."""
        with pytest.raises(ManifestError, match="not the plain name"):
            check_onnx(model(**{place: tensor(location=location)}), MEMBERS)

    @pytest.mark.parametrize("location", LOCATIONS, ids=repr)
    @pytest.mark.hostile(
        "G7 external data at ../, absolute, a link, sub/../..",
        "R24 a walk through the ONNX file before any runtime sees it",
    )
    def test_location(self, location: str):
        """../, absolute, sub/../.. (a symlink is no member: members are files we wrote)."""
        with pytest.raises(ManifestError, match="not the plain name"):
            check_onnx(model(initializer=tensor(location=location)), MEMBERS)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"offset": -1}, "plain number"),
            ({"offset": "-0"}, "plain number"),
            ({"offset": "0x10"}, "plain number"),
            ({"offset": " 1"}, "plain number"),
            ({"offset": "٣"}, "plain number"),
            ({"offset": ""}, "plain number"),
            ({"offset": "9" * 5000}, "plain number"),
            ({"length": 1 << 40}, "does not lie inside"),
            ({"length": -16}, "plain number"),
            ({"length": 4}, "does not lie inside"),
            ({"offset": 17}, "does not lie inside"),
            ({"offset": 17, "length": 16}, "does not lie inside"),
            ({"offset": 2**63, "length": 16}, "does not lie inside"),
            ({"offset": 33, "length": 0}, "does not lie inside"),
            ({"basepath": "/"}, "key 'basepath'"),
        ],
    )
    @pytest.mark.hostile(
        "G8 an external offset below zero, a length of 1 TiB, past the end",
        "R4 offset and size are whole numbers held against the real size",
    )
    def test_offset_and_length(self, entries: dict[str, object], message: str):
        """external offset negative, length 1 TiB, past end → refused."""
        with pytest.raises(ManifestError, match=message):
            check_onnx(model(initializer=tensor(location="weights.data", **entries)), MEMBERS)

    def test_no_location(self):
        with pytest.raises(ManifestError, match="not the plain name"):
            check_onnx(model(initializer=tensor()), MEMBERS)

    def test_key_twice(self):
        value = tensor(location="weights.data")
        value.external_data.add(key="location", value="/etc/passwd")
        with pytest.raises(ManifestError, match="each once"):
            check_onnx(model(initializer=value), MEMBERS)

    def test_entries_without_the_flag(self):
        """A parser that cuts the flag to 32 bits may see it where we see another number."""
        value = tensor(location="/etc/passwd")
        value.data_location = TensorProto.DEFAULT
        with pytest.raises(ManifestError, match="not the plain name"):
            check_onnx(model(initializer=value), MEMBERS)

    @pytest.mark.parametrize("dims", [[-1], [2**40, 2**40], [-1, -1]])
    @pytest.mark.hostile(
        "R4 offset and size are whole numbers held against the real size",
        "R39 counts of elements are Python's own numbers",
    )
    def test_shape_that_wraps(self, dims: list[int]):
        value = external_tensor("k", TensorProto.FLOAT, dims, location="weights.data")
        with pytest.raises(ManifestError, match="does not lie inside"):
            check_onnx(model(initializer=value), MEMBERS)

    @pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.UNDEFINED, 77])
    def test_type_without_a_size(self, kind: int):
        value = external_tensor("k", kind, [1], location="weights.data")
        with pytest.raises(ManifestError, match="cannot lie outside"):
            check_onnx(model(initializer=value), MEMBERS)


class TestOperators:
    @staticmethod
    def using(operator: str, domain: str, **more: object) -> bytes:
        imports = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
        node = helper.make_node(operator, ["x"], ["y"], domain=domain)
        return onnx_bytes([node], [X], [Y], opset_imports=imports, **more)

    @pytest.mark.parametrize(
        ("operator", "domain"),
        [
            ("Anything", "my.custom"),
            ("Anything", "ai.onnx.contrib"),
            ("Anything", "com.microsoft.extensions"),
            ("EPContext", "com.microsoft"),
            ("PyOp", "com.microsoft"),
            ("Conv", "com.microsoft.nchwc"),
            ("ATen", "org.pytorch.aten"),
            ("Relu", "AI.ONNX"),
            ("Relu", "ai.onnx\0"),
            ("Relu", " "),
        ],
    )
    @pytest.mark.hostile(
        "G9 a custom operator domain or library",
        "R26 no library is loaded by a path from a bundle or the configuration",
    )
    def test_custom_domain(self, operator: str, domain: str):
        """ONNX asking for a custom-op domain or library → refused, nothing dlopened."""
        with pytest.raises(ManifestError, match="built in"):
            check_onnx(self.using(operator, domain), {})

    @pytest.mark.parametrize(
        ("operator", "domain"),
        [
            ("Relu", ""),
            ("Relu", "ai.onnx"),
            ("Scaler", "ai.onnx.ml"),
            ("QLinearAdd", "com.microsoft"),
        ],
    )
    def test_built_in(self, operator: str, domain: str):
        check_onnx(self.using(operator, domain), {})

    @pytest.mark.hostile(
        "G9 a custom operator domain or library",
        "R24 a walk through the ONNX file before any runtime sees it",
    )
    def test_in_a_subgraph_and_in_a_function(self):
        bad = helper.make_node("Anything", [], ["z"], domain="my.custom")
        branch = helper.make_graph([bad], "b", [], [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch)
        with pytest.raises(ManifestError, match=r"'Anything' of domain 'my.custom'"):
            check_onnx(onnx_bytes([node], [X], [Y]), {})
        body = helper.make_function("f", "F", [], [], [bad], [helper.make_opsetid("", 17)])
        with pytest.raises(ManifestError, match=r"'Anything' of domain 'my.custom'"):
            check_onnx(self.using("F", "f", functions=[body]), {})

    def test_a_function_does_not_make_a_forbidden_operator_good(self):
        body = helper.make_function(
            "com.microsoft", "EPContext", [], [], [], [helper.make_opsetid("", 17)]
        )
        with pytest.raises(ManifestError, match="EPContext"):
            check_onnx(self.using("EPContext", "com.microsoft", functions=[body]), {})

    def test_unused_import_is_harmless(self):
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft.nchwc", 1)]
        node = helper.make_node("Relu", ["x"], ["y"])
        check_onnx(onnx_bytes([node], [X], [Y], opset_imports=imports), {})

    def test_options_for_the_runtime(self):
        proto = onnx.load_from_string(double().data)
        proto.metadata_props.add(key="author", value="me")
        check_onnx(proto.SerializeToString(), {})
        proto.metadata_props.add(key="ort_config", value="{}")
        with pytest.raises(ManifestError, match="ort_config"):
            check_onnx(proto.SerializeToString(), {})


def field(number: int, wire: int, payload: bytes) -> bytes:
    tag = number << 3 | wire
    assert tag < 128
    return bytes([tag]) + (bytes([len(payload)]) if wire == 2 else b"") + payload


class TestForm:
    @pytest.mark.hostile("G12 an empty or truncated model")
    def test_empty(self):
        """0-byte or truncated model → refused."""
        with pytest.raises(ManifestError, match="empty or cut off"):
            check_onnx(b"", {})

    @pytest.mark.parametrize("tiny", all_models()[7:], ids=lambda m: m.name)
    @pytest.mark.hostile("G12 an empty or truncated model")
    def test_truncated_anywhere(self, tiny):
        for size in range(len(tiny.data)):
            with pytest.raises(ManifestError):
                check_onnx(tiny.data[:size], {})

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (field(13, 2, b""), "unknown field 13"),
            (field(1, 0, b"\x08"), "comes twice"),
            (field(7, 2, b""), "comes twice"),
            (field(7, 3, b""), "another type"),
            (field(7, 0, b"\x01"), "another type"),
            (field(8, 0, b"\x01"), "another type"),
            (b"\x72\x7f", "cut off"),
            (b"\x72" + b"\xff" * 9 + b"\x01", "cut off"),
            (b"\x72" + b"\xff" * 11, "64 bits"),
            (b"\x80", "cut off"),
        ],
    )
    def test_appended(self, more: bytes, message: str):
        with pytest.raises(ManifestError, match=message):
            check_onnx(double().data + more, {})

    def test_merged_halves_of_a_tensor(self):
        """Two halves that a parser merges: one with the location, one with the length."""
        half = field(5, 2, field(13, 2, field(1, 2, b"location") + field(2, 2, b"w")))
        attribute = field(1, 2, b"a") + half + half
        graph = field(1, 2, field(5, 2, attribute))
        with pytest.raises(ManifestError):
            check_onnx(field(1, 0, b"\x08") + field(7, 2, graph), {"w": 10})

    def test_depth(self):
        inner = b""
        for _ in range(200):
            inner = _long(1, _long(5, _long(6, inner)))  # graph, node, attribute, graph
        with pytest.raises(ManifestError, match="nest deeper"):
            check_onnx(_long(7, inner), {})

    def test_number_of_fields(self, monkeypatch):
        monkeypatch.setattr(onnx_check, "FIELDS_CAP", 10)
        with pytest.raises(ManifestError, match="too many"):
            check_onnx(double().data, {})

    @pytest.mark.hostile("R9 every list of a peer has caps of count and bytes")
    @pytest.mark.parametrize("is_packed", [True, False])
    def test_axes(self, is_packed: bool):
        """The product of so many would be a number of millions of digits: three minutes, measured."""
        axes = [b"\xff" * 9 + b"\x01"] * 200_000
        dims = _long(1, b"".join(axes)) if is_packed else b"".join(b"\x08" + axis for axis in axes)
        away = field(14, 0, b"\x01") + _long(13, _long(1, b"location") + _long(2, b"w"))
        with pytest.raises(ManifestError, match="more than 64 axes"):
            check_onnx(_long(7, _long(5, dims + away)), {"w": 8})
        check_onnx(model(initializer=numpy_helper.from_array(np.ones((1,) * 64))), {})

    def test_another_format(self):
        with pytest.raises(ManifestError, match="runtime's own format"):
            check_onnx(b"\x08\x00\x00\x00ORTM" + bytes(20), {})


def _long(number: int, payload: bytes) -> bytes:
    size, head = len(payload), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + payload


PROTOS = {
    "model": onnx.ModelProto,
    "graph": onnx.GraphProto,
    "node": onnx.NodeProto,
    "attribute": onnx.AttributeProto,
    "tensor": onnx.TensorProto,
    "sparse": onnx.SparseTensorProto,
    "function": onnx.FunctionProto,
    "training": onnx.TrainingInfoProto,
    "entry": onnx.StringStringEntryProto,
    "opset": onnx.OperatorSetIdProto,
}
WIRES = {1: 1, 2: 5, 3: 0, 4: 0, 5: 0, 9: 2, 11: 2, 12: 2, 14: 0}
MAY_BE_OPAQUE = {
    "ValueInfoProto",
    "TensorAnnotation",
    "TypeProto",
    "Segment",
    "StringStringEntryProto",
    "DeviceConfigurationProto",
    "NodeDeviceConfigurationProto",
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_table_is_onnx_itself(kind: str):
    """Every field the installed onnx package has: number, wire type, and the message inside."""
    names = {proto.DESCRIPTOR.name: name for name, proto in PROTOS.items()}
    for found in PROTOS[kind].DESCRIPTOR.fields:
        ours = MESSAGES[kind][found.number]
        assert ours.wire == WIRES[found.type], found.name
        is_repeated = found.is_repeated if hasattr(found, "is_repeated") else found.label == 3
        assert ours.repeats == is_repeated, found.name
        inner = found.message_type.name if found.message_type else ""
        if inner and not (inner in MAY_BE_OPAQUE and not ours.message):
            assert ours.message == names[inner], found.name


def test_no_opaque_message_can_hold_a_tensor_or_a_node():
    watched = {"TensorProto", "NodeProto", "GraphProto", "SparseTensorProto", "FunctionProto"}
    seen: set[str] = set()

    def visit(descriptor) -> None:
        if descriptor.name in seen:
            return
        seen.add(descriptor.name)
        for found in descriptor.fields:
            if found.message_type:
                visit(found.message_type)

    for owner in (
        onnx.ModelProto,
        onnx.GraphProto,
        onnx.NodeProto,
        onnx.AttributeProto,
        TensorProto,
    ):
        for found in owner.DESCRIPTOR.fields:
            if found.message_type and found.message_type.name in MAY_BE_OPAQUE:
                visit(found.message_type)
    assert seen
    assert not seen & watched


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([m.data for m in all_models()] + [with_external_data()[0].data]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.binary(max_size=20),
)
def test_noise_raises_our_errors_only(data: bytes, edits, tail: bytes):
    content = bytearray(data + tail)
    for at, value in edits:
        content[at % len(content)] = value
    try:
        check_onnx(bytes(content), MEMBERS)
    except EdgedError:
        return
    # What gets through names no file that is not a member, as the official parser reads it.
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(content))
    except DecodeError:
        return  # a message that we pass over is malformed: the runtime refuses it too
    for value in proto.graph.initializer:
        locations = [entry.value for entry in value.external_data if entry.key == "location"]
        assert set(locations) <= set(MEMBERS)
