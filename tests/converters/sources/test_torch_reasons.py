"""What is said of PyTorch's errors: found in the texts that it really writes."""

import importlib.util

import pytest

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed on this Python"
    ),
]


def test_first_lines_leave_advice_and_colours_out():
    from converters.sources.torch_reasons import first_lines

    text = (
        "Weights only load failed. \x1b[1mdo those steps\x1b[0m\n\tWeightsUnpickler error: "
        "Unsupported global: GLOBAL nets.Net was not an allowed global by default."
    )
    assert first_lines(ValueError(text)) == "ValueError: it holds more than tensors (nets.Net)"
    blocked = (
        "Weights only load failed. Re-running with `weights_only` set to `False` will likely "
        "succeed.\n\nTrying to load unsupported GLOBAL posix.mkdir whose module posix is blocked."
    )
    assert (
        first_lines(ValueError(blocked)) == "ValueError: it holds more than tensors (posix.mkdir)"
    )
    guard = "Could not guard on data-dependent expression Eq(u0, 1)\n\nconsider friendly APIs"
    assert first_lines(ValueError(guard)).endswith("Eq(u0, 1)")
    assert first_lines(ValueError("one\n\n two\nthree")) == "ValueError: one two"


def test_the_users_own_line_is_told_apart_from_a_packages():
    import torch

    from converters.sources.torch_reasons import explain

    text = (
        f'File "/home/me/torch/net.py", line 7, in forward\nFile "{torch.__file__}", line 1, in f'
    )
    said = explain(ValueError(text), None, ())
    assert "in forward, net.py:7" in said
    assert "bring an .onnx file" in said
