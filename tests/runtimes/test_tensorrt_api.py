"""The package: found, said in words, and held against the real bindings of four releases.

Everything that ``edged`` and the fake name of TensorRT is looked up in the bindings of 8.6, 10.3, 10.16
and 11.4, which import over empty libraries (``tests/fakes/tensorrt_stubs.py``).
"""

from __future__ import annotations

import ast
import inspect
import os
from pathlib import Path
from typing import Any

import pytest

from edged.errors import LoadError
from edged.runtimes import tensorrt, tensorrt_api, tensorrt_build
from edged.runtimes.tensorrt_api import TensorRt, Words, find_tensorrt, make_logger
from tests.fakes import tensorrt as fake
from tests.fakes import tensorrt_stubs as stubs
from tests.fakes.gpu import FakeGpu

WHEELS = Path(os.environ.get("EDGED_TENSORRT_WHEELS", Path(__file__).parents[2] / "build/tensorrt"))
OPTIONAL = {
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "BuilderFlag.FP16",
    "BuilderFlag.BF16",
    "BuilderFlag.INT8",
    "BuilderFlag.FP8",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
    "DataType.INT64",
    "ParserError.node_name",
    "ParserError.node_operator",
    "ICudaEngine.device_memory_size_v2",
}
"""What some releases lack; ``edged`` asks for each by name and does without."""


class TestFinding:
    def load(self, **found: Any):
        def import_(name: str) -> Any:
            what = found.get(name, ModuleNotFoundError(f"No module named '{name}'"))
            if isinstance(what, BaseException):
                raise what
            return what

        return import_

    def module(self, version: str = "10.3.0") -> Any:
        return type("M", (), {"__version__": version, "Builder": object})

    def test_none(self):
        with pytest.raises(LoadError, match="TensorRT is not installed; on a Jetson"):
            find_tensorrt(load=self.load())

    def test_the_first(self):
        found = find_tensorrt(
            load=self.load(tensorrt=self.module(), tensorrt_rtx=self.module("1.7"))
        )
        assert (found.words, found.major) == ("TensorRT 10.3.0", 10)

    def test_the_one_for_rtx_where_it_is_the_only_one(self):
        found = find_tensorrt(load=self.load(tensorrt_rtx_bindings=self.module("1.7.1")))
        assert found.words == "TensorRT-RTX 1.7.1"

    @pytest.mark.parametrize(
        "error",
        [
            ImportError("libnvinfer.so.10: cannot open shared object file"),
            OSError("libnvdla_compiler.so: cannot open shared object file"),
        ],
    )
    def test_one_that_does_not_load_says_why(self, error: Exception):
        with pytest.raises(LoadError, match=r"is installed and does not load: libnv\w+"):
            find_tensorrt(load=self.load(tensorrt=error))

    def test_one_without_a_builder(self):
        lean = type("M", (), {"__version__": "11"})
        with pytest.raises(LoadError, match="holds no builder"):
            find_tensorrt(load=self.load(tensorrt=lean))


class TestLogger:
    def test_errors_are_kept_and_the_rest_is_not(self):
        words = Words()
        logger = make_logger(TensorRt(fake.module("10.3", FakeGpu()), "TensorRT", "10.3.0"), words)
        assert words.said() == "it does not say why"
        logger.log(fake.Severity.VERBOSE, "chatter")
        logger.log(fake.Severity.WARNING, "a warning")
        assert words.said() == "a warning"
        logger.log(fake.Severity.ERROR, "an\n  error")
        logger.log(fake.Severity.INTERNAL_ERROR, "x" * 1000)
        assert words.said().startswith("an error; xxx")
        assert len(words.said()) < 400
        words.clear()
        assert words.said() == "it does not say why"

    def test_only_the_last_lines(self):
        words = Words()
        for number in range(100):
            words.add(f"line {number}", is_error=True)
        assert words.said().startswith("line 94; ")


@pytest.mark.parametrize(
    ("release", "flags", "typed"),
    [("8.6", 1, False), ("10.3", 2, True), ("10.16", 2, True), ("11.4", 1, True)],
)
def test_network_flags(release: str, flags: int, typed: bool):
    found = TensorRt(fake.module(release, FakeGpu()), "TensorRT", release)
    assert (found.network_flags(), found.is_strongly_typed) == (flags, typed)


def surface_of_the_fake() -> dict[str, set[str]]:
    """Public members of the fake's classes, and of its enums over all releases."""
    found = {}
    for kind in fake.CLASSES:
        instance_only = {"Severity"}
        names = {name for name in dir(kind) if not name.startswith("_")} - {"name", "value"}
        found[kind.__name__] = names - instance_only
        if kind.__name__ in ("ITensor", "ILayer", "IBuilderConfig"):
            source = inspect.getsource(kind)
            tree = ast.parse(source)
            found[kind.__name__] |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
                and not node.attr.startswith("_")
            }
    for release in fake.RELEASES:
        for name, kind in fake.enums(release).items():
            found.setdefault(name, set()).update(kind.__members__)
    found["OnnxParser"].discard("refused")
    found["Builder"].discard("fault")
    found["Runtime"] -= {"gpu", "engine"}
    return found


def names_in_sources() -> set[str]:
    """Every attribute that our files take of an object of TensorRT, or might."""
    names = set()
    for module in (tensorrt, tensorrt_api, tensorrt_build):
        tree = ast.parse(Path(module.__file__).read_text())
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names


def test_our_files_call_nothing_that_the_fake_lacks():
    """So the flow tests run what is called, and what they run is held against the bindings."""
    known = {name for names in surface_of_the_fake().values() for name in names}
    for call in (
        *(
            "create_network",
            "create_builder_config",
            "build_serialized_network",
            "parse",
            "get_error",
        ),
        *("set_memory_pool_limit", "create_timing_cache", "set_timing_cache", "get_timing_cache"),
        *(
            "set_shape",
            "add_optimization_profile",
            "deserialize_cuda_engine",
            "create_engine_inspector",
        ),
        *("set_input_shape", "set_tensor_address", "infer_shapes", "execute_async_v3"),
    ):
        assert call in known
        assert call in names_in_sources()


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real bindings have, by release."""
    if problem := stubs.problem():
        pytest.skip(f"could not import 'tensorrt': {problem}")
    missing = [name for name in stubs.RELEASES if not stubs.have(WHEELS, name)]
    if missing:
        pytest.skip(
            f"could not import 'tensorrt': no wheels of {', '.join(missing)} in {WHEELS.name}"
        )
    folder = tmp_path_factory.mktemp("tensorrt")
    return {name: stubs.dump(stubs.unpack(WHEELS, name, folder / name)) for name in stubs.RELEASES}


@pytest.mark.frameworks
class TestRealBindings:
    @pytest.mark.parametrize("release", stubs.RELEASES)
    def test_every_member_of_the_fake_is_one_of_the_package(
        self, surfaces: dict[str, Any], release: str
    ):
        classes = surfaces[release]["classes"]
        lacking = {
            f"{kind}.{name}"
            for kind, names in surface_of_the_fake().items()
            for name in names
            if name not in classes.get(kind, {})
        }
        assert not lacking - OPTIONAL, f"TensorRT {release} has none of these"

    def test_what_is_called_optional_is_lacking_somewhere(self, surfaces: dict[str, Any]):
        for name in OPTIONAL:
            kind, _, member = name.partition(".")
            assert any(member not in one["classes"].get(kind, {}) for one in surfaces.values()), (
                name
            )
            assert any(member in one["classes"].get(kind, {}) for one in surfaces.values()), name

    @pytest.mark.parametrize("release", stubs.RELEASES)
    def test_the_fakes_calls_take_what_the_packages_do(
        self, surfaces: dict[str, Any], release: str
    ):
        classes = surfaces[release]["classes"]
        for kind in fake.CLASSES:
            for name, call in inspect.getmembers(kind, inspect.isfunction):
                if name.startswith("_") or f"{kind.__name__}.{name}" in OPTIONAL or name == "log":
                    continue
                wanted = [each for each in inspect.signature(call).parameters if each != "self"]
                overloads = stubs.signatures(classes[kind.__name__][name][1])
                assert any(each[: len(wanted)] == wanted for each in overloads), (
                    kind,
                    name,
                    overloads,
                )

    @pytest.mark.parametrize("release", stubs.RELEASES)
    def test_flags_of_a_release_are_those_of_its_fake(self, surfaces: dict[str, Any], release: str):
        """``edged`` decides by whether a flag is there; a fake that has others would prove nothing."""
        classes = surfaces[release]["classes"]
        for kind, made in fake.enums(release).items():
            have = {
                name
                for name in classes[kind]
                if f"{kind}.{name}" in OPTIONAL or name in made.__members__
            }
            assert have == set(made.__members__), (release, kind)
        numbers = classes["NetworkDefinitionCreationFlag"]
        for name, member in fake.enums(release)[
            "NetworkDefinitionCreationFlag"
        ].__members__.items():
            assert numbers[name] == ["member", str(int(member))]

    def test_what_was_removed_is_not_used(self, surfaces: dict[str, Any]):
        """Members of 8.6 that 11.4 has no more."""
        classes = (
            "Builder",
            "IBuilderConfig",
            "ICudaEngine",
            "IExecutionContext",
            "OnnxParser",
            "ILayer",
        )
        gone = {
            name
            for kind in classes
            for name in surfaces["8.6"]["classes"][kind]
            if name not in surfaces["11.4"]["classes"][kind] and not name.startswith("_")
        }
        assert {"execute_async_v2", "max_workspace_size", "get_binding_index", "precision"} <= gone
        assert not gone & (names_in_sources() - {"name", "precision"})

    def test_our_logger_is_one_for_each_of_them(self, tmp_path: Path):
        if problem := stubs.problem():
            pytest.skip(f"could not import 'tensorrt': {problem}")
        code = (
            "from edged.runtimes.tensorrt_api import *\n"
            "import tensorrt_bindings\n"
            "found = TensorRt(tensorrt_bindings, 'TensorRT', tensorrt_bindings.__version__)\n"
            "words = Words(); logger = make_logger(found, words)\n"
            "assert isinstance(logger, tensorrt_bindings.ILogger)\n"
            "logger.log(tensorrt_bindings.ILogger.ERROR, 'an error')\n"
            "assert words.said() == 'an error', words.said()\n"
            "try: tensorrt_bindings.Builder(logger)\n"
            "except TypeError as exc: print(found.words, found.network_flags(), 'TypeError')\n"
        )
        for release in stubs.RELEASES:
            if not stubs.have(WHEELS, release):
                pytest.skip(f"could not import 'tensorrt': no wheel of {release}")
            done = stubs.run(stubs.unpack(WHEELS, release, tmp_path / release), code)
            assert done.returncode == 0, done.stderr
            flags = 1 if release in ("8.6", "11.4") else 2
            assert done.stdout.strip().endswith(f"{flags} TypeError"), done.stdout
