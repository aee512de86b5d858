"""The steps of a conversion: told as they begin, kept only when they end well."""

import pytest

from converters.steps import Steps


def test_a_step_is_told_at_its_beginning_and_kept_at_its_end():
    told = []
    steps = Steps(told.append)
    with steps.step("packing"):
        assert told == ["packing"]
        assert not steps.done
    (step,) = steps.done
    assert step.name == "packing"
    assert step.seconds >= 0
    assert step.peak_bytes > 1 << 20  # the kernel counts in kilobytes, the report in bytes


def test_memory_only_grows_and_children_count(tmp_path):
    import subprocess
    import sys

    steps = Steps(lambda _: None)
    with steps.step("small"):
        pass
    own = steps.done[0].peak_bytes
    with steps.step("with a child"):
        code = f"held = bytearray({own} + (64 << 20)); held[::4096] = b'1' * len(held[::4096])"
        subprocess.run([sys.executable, "-c", code], check=True)
    assert steps.done[1].peak_bytes > own + (32 << 20)


def test_one_that_raises_is_not_kept():
    steps = Steps(lambda _: None)
    with pytest.raises(ValueError, match="broken"), steps.step("reading"):
        raise ValueError("broken")
    assert not steps.done
