import pytest

from edged.config.binding import BindingConfig
from edged.config.discovery import DiscoveryConfig
from edged.config.discovery_check import discovery_problems
from edged.specs import Duration, OutputSpec

SITE = DiscoveryConfig(device="{site}")


def problems(discovery=SITE, **words):
    values = {"name": "b", "from_": "in/{site}", "to": "out", "model": "m"} | words
    binding = BindingConfig(discovery=discovery, **values)
    return [where for where, _ in discovery_problems(binding, "b")]


def test_good():
    assert problems() == problems(discovery=None) == []


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ({"to": None}, ""),
        ({"stream": True}, ""),
        ({"output": OutputSpec(codec="cbor")}, ""),
        ({"discovery": DiscoveryConfig(device="{room}")}, ".device"),
        ({"discovery": DiscoveryConfig(device="{site}", delay=Duration(601 * 10**9))}, ".delay"),
    ],
)
def test_refused(words, where):
    assert problems(**words) == [f"b.discovery{where}"]
