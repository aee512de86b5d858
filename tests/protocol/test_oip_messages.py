"""The tables of messages: each can be made by Google's library; numbers that clients rely on."""

from __future__ import annotations

import pytest

from edged.protocol import oip_messages as messages
from edged.protocol.protobuf import Schema, decode, encode
from tests.fakes.protobuf import google

SCHEMAS = {name: one for name, one in vars(messages).items() if isinstance(one, Schema)}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_message(name: str) -> None:
    assert set(google(SCHEMAS[name]).DESCRIPTOR.fields_by_name) == set(SCHEMAS[name].numbers)


def test_numbers() -> None:
    assert messages.INFER_REQUEST.numbers == {
        "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "inputs": 5, "outputs": 6,
        "raw_input_contents": 7,
    }  # fmt: skip
    assert messages.INFER_RESPONSE.numbers["raw_output_contents"] == 6
    assert messages.CONTENTS.numbers["fp32_contents"] == 6
    assert messages.DATA_TYPES["TYPE_FP32"] == 11
    assert messages.DATA_TYPES["TYPE_BF16"] == 14


def test_a_configuration_goes_there_and_back() -> None:
    config = {
        "name": "m", "max_batch_size": 8, "version_policy": {"latest": {"num_versions": 1}},
        "input": [{"name": "x", "data_type": messages.DATA_TYPES["TYPE_INT8"]}],
        "model_transaction_policy": {}, "sequence_batching": {},
    }  # fmt: skip
    data = encode(messages.MODEL_CONFIG, {"config": config})
    assert decode(messages.MODEL_CONFIG, data) == {"config": config}
