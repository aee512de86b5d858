"""The package: found, said in words, and held against the real bindings of four releases.

The fake's classes are made out of what the bindings of 8.6, 10.3, 10.16 and 11.4 have
(``tests/fakes/tensorrt_surface.json``). That this is so is looked up in the bindings themselves, which
import over empty libraries (``tests/fakes/tensorrt_stubs.py``).
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest

from edged.errors import LoadError
from edged.runtimes import (
    tensorrt,
    tensorrt_api,
    tensorrt_build,
    tensorrt_lane,
    tensorrt_session,
)
from edged.runtimes.tensorrt_api import TensorRt, Words, find_tensorrt, make_logger
from tests.fakes import tensorrt as fake
from tests.fakes import tensorrt_stubs as stubs
from tests.fakes import tensorrt_surface as surface
from tests.fakes.gpu import FakeGpu

WHEELS = Path(os.environ.get("EDGED_TENSORRT_WHEELS", Path(__file__).parents[2] / "build/tensorrt"))


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
        severity = logger.Severity
        assert words.said() == "it does not say why"
        logger.log(severity.VERBOSE, "chatter")
        logger.log(severity.WARNING, "a warning")
        assert words.said() == "a warning"
        logger.log(severity.ERROR, "an\n  error")
        logger.log(severity.INTERNAL_ERROR, "x" * 1000)
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
    assert found.network_flags(is_typed=False) == (0 if release == "11.4" else 1)


def names_in_sources() -> set[str]:
    """Every attribute that our files take of an object of TensorRT, or might."""
    names = set()
    for module in (tensorrt, tensorrt_api, tensorrt_build, tensorrt_lane, tensorrt_session):
        tree = ast.parse(Path(module.__file__).read_text())
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names


OPTIONAL = {
    ("ParserError", "node_name"),
    ("ParserError", "node_operator"),
    ("ICudaEngine", "device_memory_size_v2"),
}
"""What some releases lack; ``edged`` asks for each by name and does without."""


class TestTheFake:
    """It is made out of the surface of the real bindings, and has what they have."""

    def test_every_member_that_it_plays_is_one_of_each_release_or_optional(self):
        for release in fake.RELEASES:
            found = surface.read(release)
            lacking = {
                (name, member)
                for name in surface.CLASSES
                for member in surface.public(fake.BEHAVIOURS[name]) - set(found[name])
            }
            assert lacking == (OPTIONAL if release == "8.6" else set()), release

    @pytest.mark.parametrize("release", fake.RELEASES)
    def test_its_calls_take_what_the_packages_do(self, release: str):
        found = surface.read(release)
        for name in surface.CLASSES:
            for member, call in inspect.getmembers(fake.BEHAVIOURS[name], inspect.isfunction):
                if member.startswith("_") or (name, member) in OPTIONAL:
                    continue
                wanted = surface.parameters(call)
                overloads = re.findall(r"\((.*?)\)", found[name][member])
                known = [each.split(", ") if each else [] for each in overloads]
                assert any(each[: len(wanted)] == wanted for each in known), (name, member, known)

    def test_what_a_release_lacks_fails_whoever_asks_for_it(self):
        """The control: code that was written against another release."""
        old, new = (fake.module(release, FakeGpu()) for release in ("8.6", "11.4"))
        assert int(old.BuilderFlag.FP16) == 0
        with pytest.raises(AttributeError):
            _ = new.BuilderFlag.FP16
        with pytest.raises(AttributeError):
            _ = old.DataType.INT64
        assert callable(new.ParserError(0, "", "", "").node_name)
        with pytest.raises(AttributeError, match=r"node_name is not in this release"):
            _ = old.ParserError(0, "", "", "").node_name
        with pytest.raises(AttributeError, match="no max_workspace_size that could be set"):
            new.IBuilderConfig().max_workspace_size = 1
        with pytest.raises(AttributeError, match="no is_shape_tensor that could be set"):
            new.ITensor("x", 1, ()).is_shape_tensor = True

    def test_what_it_does_not_play_fails_the_test_that_needs_it(self):
        with pytest.raises(AssertionError, match=r"Builder\.reset is not played by the fake"):
            fake.module("10.3", FakeGpu()).Builder(None).reset()

    def test_a_member_that_no_release_has_is_not_taken_over(self):
        class Better(fake.Builder):
            def build_it_at_once(self) -> None:
                pass

        made = surface.build(surface.read("10.3"), fake.BEHAVIOURS | {"Builder": Better})
        with pytest.raises(AttributeError, match="build_it_at_once is not in this release"):
            made.Builder(None).build_it_at_once()


def members_of(release: str) -> set[str]:
    """Every name that a release has, wherever."""
    found = surface.read(release)
    return {name for members in found.values() for name in members} | set(found)


@pytest.mark.parametrize("release", fake.RELEASES)
def test_what_we_name_is_in_every_release_or_asked_for_by_name(release: str):
    """Also where no test comes by: a name that some release has, and this one has not."""
    known = set().union(*(members_of(each) for each in fake.RELEASES))
    assert len(names_in_sources() & known) > 60
    assert not (names_in_sources() & known) - members_of(release) - {n for _, n in OPTIONAL}


@pytest.mark.parametrize("release", fake.RELEASES)
def test_what_is_set_by_name_can_be_set(release: str):
    """Asked for with ``hasattr``, so that a misspelt name would leave the door open in silence."""
    found = surface.read(release)["Runtime"]
    assert [found[name] for name in tensorrt_session._CLOSED] == ["property", "property"]


def test_what_was_removed_is_not_used():
    """Members of 8.6 that 11.4 has no more."""
    old, new = surface.read("8.6"), surface.read("11.4")
    gone = {name for kind in surface.CLASSES for name in set(old[kind]) - set(new[kind])}
    assert {"execute_async_v2", "max_workspace_size", "get_binding_index", "precision"} <= gone
    assert not gone & (names_in_sources() - {"name", "precision"})


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
    return surface.dump_all(WHEELS, folder)


@pytest.mark.frameworks
class TestRealBindings:
    def test_the_surface_in_the_repository_is_theirs(self, surfaces: dict[str, Any]):
        made = surface.encode(surface.collect(surfaces))
        assert surface.FILE.read_text("utf-8") == made, (
            "make it anew: python -m tests.fakes.tensorrt_surface build/tensorrt"
        )

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
