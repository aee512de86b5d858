import subprocess
import sys

import pytest

from converters.errors import ConversionError
from converters.recipe import make_recipe
from converters.targets.table import DEFAULT_OPSET, DEFAULT_TARGET, MIN_OPSET, TARGETS, find_target


def test_the_default_is_there_and_a_recipe_takes_no_other_than_these():
    assert DEFAULT_TARGET in TARGETS
    fields = {"source": "m.onnx", "samples": "s.npy", "name": "m", "release": 1}
    assert make_recipe({**fields, "target": "jetpack7"}).target == "jetpack7"
    with pytest.raises(ConversionError, match='no target "jetpack99"'):
        make_recipe({**fields, "target": "jetpack99"})


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda t: t.name)
def test_a_target_reads_what_is_written_when_nobody_says_an_opset(target):
    assert MIN_OPSET <= DEFAULT_OPSET <= target.max_opset
    assert target.max_ir <= 10
    assert (target.tensorrt is None) == (target.tensorrt_max_opset is None)
    assert (target.tensorrt_max_opset or DEFAULT_OPSET) >= DEFAULT_OPSET


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(ConversionError, match=r'no target "tpu"; there are cpu \(any CPU'):
        find_target("tpu")


def test_the_table_imports_nothing_heavy():
    code = (
        "import sys, converters.targets.table\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'msgspec', 'yaml'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
