"""config.pbtxt: every way of writing it, errors with their place, and Triton's own field names."""

import importlib.util

import pytest
from google.protobuf import descriptor_pool

from converters.errors import ConversionError
from converters.registries.pbtxt import MAX_CONFIG_BYTES, parse_config, read_config

TEXT = """
# a comment
name: "de" 'nse'   # strings side by side are one
platform: 'onnxruntime_onnx'
max_batch_size: 0x8
input [
  { name: "a" data_type: TYPE_FP32 dims: [ 3, -1 ] },
  { name: "b", data_type: 9; dims: 1 dims: 2 reshape { shape: [ ] } }
]
output < name: "c" data_type: TYPE_INT64 dims: [ 1 ] label_filename: "labels.txt" >
dynamic_batching { }
parameters: { key: "k" value: { string_value: "v" } }
metric_tags { key: "t" value: "u" }
optimization { graph: { level: -1 } }
"""


def test_the_whole_text_format():
    config, unknown = parse_config(TEXT)
    assert not unknown
    assert (config.name, config.max_batch_size) == ("dense", 8)
    assert [list(entry.dims) for entry in config.input] == [[3, -1], [1, 2]]
    assert config.input[1].HasField("reshape")
    assert config.HasField("dynamic_batching")
    assert not config.HasField("version_policy")
    assert config.parameters["k"].string_value == "v"
    assert config.metric_tags["t"] == "u"
    assert config.output[0].label_filename == "labels.txt"


@pytest.mark.hostile("T6 a config.pbtxt that is nested, cut or misspelt")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size: many", "line 1, column 17"),
        ("\n\ninput { data_type: TYPE_FP33 }", "line 3, column 20.*no value named TYPE_FP33"),
        ("name: 'a'\nname: 'b'", "line 2.*should not have multiple"),
        ("dynamic_batching {} sequence_batching {}", "sequence_batching"),
        ("input {", "Expected"),
        ("max_batch_size: 99999999999", "out of range"),
        ('name: "\\xff"', "utf-8"),
        ("\0", "line 1, column 1"),
        ("x { " * 5000, "nested too deeply"),
        ("input { " * 5000, "nested too deeply"),
    ],
)
def test_an_error_has_its_place(text, words):
    with pytest.raises(ConversionError, match=words):
        parse_config(text)


@pytest.mark.hostile("T6 a config.pbtxt that is nested, cut or misspelt")
def test_an_unknown_field_is_told_and_passed_over():
    config, unknown = parse_config('name: "a"\nnovelty { deep: [1, { x: 2 }] }\nmax_batch_size: 2')
    assert (config.name, config.max_batch_size) == ("a", 2)
    assert len(unknown) == 1
    assert unknown[0].startswith('line 2: the field "novelty" is not known here')


def test_a_giant_file_is_not_read(tmp_path):
    (tmp_path / "config.pbtxt").write_text("# " + "x" * MAX_CONFIG_BYTES)
    with pytest.raises(ConversionError, match="no description needs"):
        read_config(tmp_path / "config.pbtxt")


def test_the_definitions_are_in_a_pool_of_their_own():
    parse_config("")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("edged.triton.ModelConfig")


def fields_of(message, seen=None):
    """Every (path, kind, repeated) of a message, nested ones included, maps as their values."""
    seen = seen or ()
    found = set()
    for field in message.fields:
        kind = field.message_type or field.enum_type
        if field.message_type is not None and field.message_type.full_name in seen:
            continue
        path = (field.name,)
        if field.enum_type is not None:
            values = tuple((v.name, v.number) for v in kind.values)
            found.add((path, values, field.is_repeated))
        elif field.message_type is None:
            found.add((path, field.type, field.is_repeated))
        else:
            found.add((path, "message", field.is_repeated))
            for below, what, repeated in fields_of(kind, (*seen, kind.full_name)):
                found.add(((field.name, *below), what, repeated))
    return found


@pytest.mark.frameworks
def test_names_types_and_values_are_tritons_own():
    """Held against the message definitions of Triton's client; loaded without its gRPC."""
    spec = importlib.util.find_spec("tritonclient")
    if spec is None:
        pytest.skip("tritonclient is not installed")
    path = f"{spec.submodule_search_locations[0]}/grpc/model_config_pb2.py"
    found = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    ours = fields_of(parse_config("")[0].DESCRIPTOR)
    assert ours == fields_of(module.ModelConfig.DESCRIPTOR)
