"""A sample of the onnx package's backend tests through a daemon; ``make onnx-suite`` asks them all."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator

import pytest

from edged.errors import ManifestError
from edged.manifest import canonical_json, parse_manifest
from tests.e2e.process import wait_for
from tests.onnx_suite import freeze, holding
from tests.onnx_suite.asking import WAYS
from tests.onnx_suite.cases import by_name
from tests.onnx_suite.packing import Packed, model_name, pack

pytestmark = pytest.mark.slow

EVERY = 23
"""A prime: the package's cases come in groups of two, three and four."""


def sample() -> list[Packed]:
    left_out, known = freeze.not_served(), by_name()
    names = [name for name in freeze.read() if name not in left_out and name in known][::EVERY]
    found = []
    for name in names:
        try:
            found.append(pack(known[name]))
        except Exception:
            assert freeze.versions() != freeze.frozen_versions(), name
    assert len(found) * 10 >= len(names) * 9, "too little of the list can be run here"
    return found


@pytest.fixture(scope="module")
def cases() -> list[Packed]:
    return sample()


@pytest.fixture(scope="module")
def daemon(
    cases: list[Packed], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[holding.OipDaemon]:
    with holding.serving(tmp_path_factory.mktemp("d"), cases) as process:
        wait_for(process.is_up, 120)
        yield process


@pytest.fixture(scope="module")
def found(daemon: holding.OipDaemon, cases: list[Packed]) -> list[holding.Difference]:
    """Of every way that can be asked here, in one go: a model is loaded once for all of them."""
    return list(holding.differences(daemon, cases, available()))


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_those_of_onnx_runtime_bit_for_bit(
    found: list[holding.Difference], way: str
) -> None:
    if way not in available():
        pytest.skip("gRPC is not installed here")
    assert [str(one) for one in found if one.way == way] == []


def test_the_list_is_long_and_what_is_not_served_is_on_it() -> None:
    names = freeze.read()
    assert len(names) == len(set(names)) >= 1675
    assert len({model_name(name) for name in names}) == len(names)
    assert set(freeze.not_served()) <= set(names)


def test_what_is_not_served_cannot_be() -> None:
    """A reason that is none any more is to be struck off the list."""
    if freeze.versions() != freeze.frozen_versions():
        pytest.skip(f"the list was made with {freeze.frozen_versions()}")
    for name in freeze.not_served():
        with pytest.raises(ManifestError):
            parse_manifest(canonical_json(pack(by_name()[name]).manifest))


@pytest.mark.parametrize("way", WAYS)
def test_another_answer_is_a_difference(
    daemon: holding.OipDaemon, cases: list[Packed], way: str
) -> None:
    """The gate, seen to close: a last bit, and no answer at all; and to open again."""
    if way not in available():
        pytest.skip("gRPC is not installed here")
    first, other, third = cases[:3]
    (inputs, answers), *_ = first.data
    answers = [[array.copy() for array in answer] for answer in answers]
    for answer in answers:
        answer[0].view("u1").flat[0] ^= 1
    off = first._replace(data=[(inputs, answers)])
    lost = other._replace(model="nobody")
    found = list(holding.differences(daemon, [off, lost, third], [way]))
    assert [(one.way, one.case) for one in found] == [
        (way, first.case.name),
        (way, other.case.name),
    ]


@functools.cache
def available() -> tuple[str, ...]:
    """The ways that this environment has clients and a server for."""
    modules = ("grpc", "hpack", "tritonclient.grpc")
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError:
        return tuple(way for way in WAYS if way != "grpc")
    return tuple(WAYS)
