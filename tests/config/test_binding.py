"""What of a binding the schema itself takes; how its parts go together, test_check.py tests."""

import msgspec
import pytest

from edged.config.binding import BindingConfig

LEAST = {"name": "b", "from": "in", "model": "m"}


def test_the_least_that_makes_a_binding():
    assert msgspec.convert(LEAST, BindingConfig).codec == "json"
    assert BindingConfig.__struct_encode_fields__[:2] == ("name", "from")


@pytest.mark.parametrize("wrong", [{"name": "Big"}, {"qos": 2}, {"codec": "xml"}, {"frm": "x"}])
def test_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(LEAST | wrong, BindingConfig)
