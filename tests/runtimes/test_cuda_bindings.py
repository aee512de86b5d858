"""cuda-bindings: what ``test_cuda.py`` does not ask of both backends, and the fake held to the package."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from edged.errors import EdgedError
from edged.runtimes import cuda_bindings
from edged.runtimes.cuda_bindings import CudaBindings
from tests.fakes.gpu import FakeBindings, FakeGpu


def test_memory_that_cannot_be_mapped_has_no_address_there():
    gpu = FakeGpu()
    one = CudaBindings(0, FakeBindings(gpu))
    gpu.fail = {"cudaHostGetDevicePointer": 801}
    assert one.pin(4).pointer == 0


def test_an_error_has_the_call_cudas_words_and_its_number():
    gpu = FakeGpu()
    one = CudaBindings(0, FakeBindings(gpu))
    gpu.fail = {"cudaMemGetInfo": 719}
    with pytest.raises(EdgedError, match=r"^cudaMemGetInfo failed: unknown error \(status 719\)$"):
        one.memory()


ENUMS = ("cudaDeviceAttr", "cudaMemcpyKind", "cudaStreamCaptureMode")


def used_names() -> set[str]:
    """Everything that the backend's source names of the package."""
    tree = ast.parse(Path(cuda_bindings.__file__).read_text())
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names |= {
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    }
    return {
        name for name in names if name.startswith("cuda") and name.isidentifier() and name != "cuda"
    }


def test_the_fake_has_what_the_backend_uses():
    fake = FakeBindings(FakeGpu())
    holders = [fake, *(getattr(fake, kind) for kind in ENUMS)]
    missing = [name for name in used_names() if not any(hasattr(one, name) for one in holders)]
    assert not missing
    assert len(used_names()) > 20


@pytest.fixture(scope="module")
def real():
    return pytest.importorskip("cuda.bindings.runtime")


@pytest.mark.frameworks
class TestRealPackage:
    """It imports without a GPU and without a driver."""

    def test_has_what_the_backend_uses(self, real):
        holders = [real, *(getattr(real, kind) for kind in ENUMS)]
        missing = [name for name in used_names() if not any(hasattr(one, name) for one in holders)]
        assert not missing

    def test_the_fakes_calls_take_as_many_arguments(self, real):
        fake = FakeBindings(FakeGpu())
        for name in sorted(used_names()):
            call = getattr(fake, name, None)
            if not inspect.ismethod(call):
                continue
            said = (getattr(real, name).__doc__ or "").strip().splitlines()[0]
            wanted = [
                part for part in said[said.index("(") + 1 : said.index(")")].split(",") if part
            ]
            assert len(inspect.signature(call).parameters) == len(wanted), said

    def test_the_fakes_numbers_are_the_packages(self, real):
        fake = FakeBindings(FakeGpu())
        for kind in ENUMS:
            for name, number in vars(getattr(fake, kind)).items():
                assert int(getattr(getattr(real, kind), name)) == number

    def test_without_a_driver_it_says_so(self, real):
        if real.cudaGetDeviceCount()[0] == 0:
            pytest.skip("there is a GPU here")
        with pytest.raises(EdgedError, match=r"cudaSetDevice failed: .*driver"):
            CudaBindings()
