"""A step has exactly one kind, and the fields know which."""

from edged.config.pipeline import KINDS, StepConfig


def test_kinds():
    assert StepConfig(name="a").kinds == ()
    assert StepConfig(name="a", compute="x", first=("x",)).kinds == ("compute", "first")
    assert set(KINDS) < set(StepConfig.__struct_fields__)
