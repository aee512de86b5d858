import pytest

from converters.gate.checks import Checks


def test_a_step_passes_with_what_it_says_and_takes_time():
    checks = Checks()
    with checks.step("numbers") as said:
        said += ["40 rows", "no NaN"]
    (check,) = checks.done
    assert (check.name, check.verdict, check.detail) == ("numbers", "passed", "40 rows; no NaN")
    assert check.seconds >= 0


def test_a_step_that_raises_is_not_noted_as_passed():
    checks = Checks()
    with pytest.raises(ValueError, match="wrong"), checks.step("numbers"):
        raise ValueError("wrong")
    assert checks.done == []


def test_verdicts_stay_in_order():
    checks = Checks()
    checks.add("tensorrt", "not checked", "no GPU")
    checks.add("edges", "remark", "zeros differ", 0.5)
    assert [(check.name, check.verdict) for check in checks.done] == [
        ("tensorrt", "not checked"), ("edges", "remark")
    ]  # fmt: skip
    assert checks.done[1].seconds == 0.5
