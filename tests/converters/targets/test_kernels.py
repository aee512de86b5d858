import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native

from converters.targets.kernels import has_kernel, list_kernels, read_kernels
from converters.targets.table import TARGETS

TABLES = sorted({target.onnxruntime for target in TARGETS.values()})


@pytest.mark.parametrize("version", TABLES)
def test_every_target_has_its_runtimes_own_list(version):
    table = read_kernels(version)
    assert has_kernel(table, "", "Conv", 11)
    assert has_kernel(table, "ai.onnx.ml", "TreeEnsembleClassifier", 3)
    assert not has_kernel(table, "", "Erfc", 1)


def test_an_open_range_reaches_on_and_a_closed_one_ends():
    table = {"": {"Abs": [[6, 12], [13, 0]], "Old": [[1, 9]]}}
    assert has_kernel(table, "", "Abs", 6)
    assert has_kernel(table, "", "Abs", 40)
    assert not has_kernel(table, "", "Abs", 5)
    assert not has_kernel(table, "", "Old", 10)


def test_a_version_without_a_list_has_none():
    assert read_kernels("0.0.1") is None


@pytest.mark.skipif(onnxruntime.__version__ not in TABLES, reason="another ONNX Runtime is here")
def test_the_list_is_what_this_runtime_says_of_itself():
    said = list_kernels(native.get_all_opkernel_def())
    for domain, operators in read_kernels(onnxruntime.__version__).items():
        assert operators == said[domain], domain
