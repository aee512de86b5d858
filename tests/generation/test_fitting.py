"""Which bindings can serve: at boot each for itself, later all of them or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edged.config.binding import BindingConfig
from edged.config.load import Snapshot
from edged.config.problems import ConfigProblemsError, Mark
from edged.config.schema import Config
from edged.errors import FieldError
from edged.generation.fitting import fit_all, fit_possible
from edged.manifest import ManifestOf
from tests.fakes.model import doubler


def binding(name: str, **more: str) -> BindingConfig:
    return BindingConfig(name=name, from_=f"{name}/in", model=name, **more)


A, B, C = (binding(name) for name in "abc")


def snapshot(*bindings: BindingConfig) -> Snapshot:
    marks = {f"bindings[{i}].model": Mark("/c/edged.yaml", 10 + i, 3) for i in range(9)}
    return Snapshot(Config(bindings=bindings), Path("/c"), {}, marks)


def prepare(_: Snapshot, bindings: Sequence[BindingConfig], of: ManifestOf) -> tuple[str, ...]:
    for index, one in enumerate(bindings):
        if of(one.model, None) is None:
            raise FieldError(f"bindings[{index}].model", f"no release of {one.model}")
    return tuple(one.name for one in bindings)


def ready(*models: str) -> ManifestOf:
    return lambda model, _: doubler(model) if model in models else None


class TestPossible:
    def test_each_for_itself(self) -> None:
        found = fit_possible(prepare, snapshot(A, B, C), ready("a", "c"))
        assert found == (("a", "c"), {"b": "no release of b"})

    def test_none_and_nothing(self) -> None:
        assert fit_possible(prepare, snapshot(A), ready()) == ((), {"a": "no release of a"})
        assert fit_possible(prepare, snapshot(), ready()) == ((), {})


class TestAll:
    def test_all_fit(self) -> None:
        assert fit_all(prepare, snapshot(A, B), (), ready("a", "b")) == (("a", "b"), {})

    def test_one_that_waits_may_wait_on(self) -> None:
        found = fit_all(prepare, snapshot(A, B, C), (A,), ready("b", "c"))
        assert found == (("b", "c"), {"a": "no release of a"})

    def test_one_that_waited_and_fits_now(self) -> None:
        assert fit_all(prepare, snapshot(A, B), (A,), ready("a", "b")) == (("a", "b"), {})

    @pytest.mark.parametrize("may_wait", [(), (A,), (binding("c", codec="raw"),)])
    def test_a_misfit_is_refused_at_its_own_place(
        self, may_wait: tuple[BindingConfig, ...]
    ) -> None:
        """Also when others before it were left out."""
        models = ready("b") if A in may_wait else ready("a", "b")
        with pytest.raises(ConfigProblemsError) as caught:
            fit_all(prepare, snapshot(A, B, C), may_wait, models)
        (problem,) = caught.value.problems
        assert str(problem) == "/c/edged.yaml:12:3: bindings[2].model: no release of c"
