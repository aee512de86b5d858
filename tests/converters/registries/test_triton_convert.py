"""What the configuration says about files that have no names of their own."""

import pytest

from converters.registries.pbtxt import parse_config
from converters.registries.triton_convert import _positions


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["x"], ["x"]),
        (["INPUT__1", "INPUT__0"], ["INPUT__0", "INPUT__1"]),
        (["image", "mask"], []),
        (["INPUT__0", "INPUT__2"], []),
        (["INPUT__0", "mask"], []),
    ],
)
def test_the_order_of_names_is_taken_where_it_is_said(names, order):
    config, _ = parse_config("".join(f'input {{ name: "{name}" }} ' for name in names))
    assert _positions(config.input) == order
