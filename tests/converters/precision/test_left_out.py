import pytest

from converters.errors import ConversionError
from converters.precision.left_out import LeftOut


def test_a_tenth_is_an_accident_and_more_is_not():
    left = LeftOut("set", "pictures", 20, "look again")
    assert not left.told()
    left.add("a", "broken")
    left.add("b", "empty")
    left.add("a", "broken")  # seen again in another pass
    assert left.told() == "2 left out (a: broken; b: empty)"
    with pytest.raises(
        ConversionError, match=r"over a tenth of the 20 pictures .* a: broken; look"
    ):
        left.add("c", "broken")


def test_few_are_named():
    left = LeftOut("set", "pictures", 100, "")
    for name in "abcde":
        left.add(name, "broken")
    assert left.told() == "5 left out (a: broken; b: broken; c: broken; …)"


def test_too_little_that_is_left_is_refused():
    left = LeftOut("set", "messages", 9, "")
    left.check_enough(8)
    with pytest.raises(ConversionError, match="at least 8 rows, got 7 of 9 messages"):
        left.check_enough(7)
