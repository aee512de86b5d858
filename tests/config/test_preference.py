"""A list of runtimes is a wish, or only its first is good enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import load
from edged.config.preference import may_serve
from edged.config.problems import ConfigProblemsError

MODEL = "trust: {require_signatures: false}\nmodels: {a: {bundle: a.edgb, runtime: [openvino]%s}}\n"


@pytest.mark.parametrize(("fallback", "able"), [("allow", ("a", "b", "c")), ("deny", ("a",))])
def test_who_may_serve(fallback: str, able: tuple[str, ...]):
    assert may_serve(("a", "b", "c"), fallback) == able
    assert may_serve((), fallback) == ()


@pytest.mark.parametrize(("said", "means"), [("", "allow"), (", fallback: deny", "deny")])
def test_how_it_is_said(tmp_path: Path, said: str, means: str):
    (tmp_path / "edged.yaml").write_text(MODEL % said)
    assert load(tmp_path).config.models["a"].fallback == means


def test_anything_else_is_a_problem(tmp_path: Path):
    (tmp_path / "edged.yaml").write_text(MODEL % ", fallback: never")
    with pytest.raises(ConfigProblemsError, match=r"models\.a\.fallback"):
        load(tmp_path)
