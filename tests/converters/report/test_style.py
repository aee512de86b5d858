import re
from pathlib import Path

from converters.report import page, plots
from converters.report.style import STYLE


def test_nothing_is_fetched_and_nothing_ends_the_style_element():
    assert not re.search(r"url\(|@import|https?:|<", STYLE)
    assert "\n" not in STYLE
    assert STYLE.count("{") == STYLE.count("}")


def test_every_colour_that_is_used_is_given_for_light_and_for_dark():
    used = set(re.findall(r"var\((--\w+)\)", STYLE))
    light, dark = re.findall(r":root\{([^}]*)\}", STYLE)
    assert used == set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark))


def test_every_class_of_the_style_is_one_that_the_page_writes():
    written = Path(page.__file__).read_text() + Path(plots.__file__).read_text()
    for name in set(re.findall(r"\.([a-z]+)[ {,:]", STYLE)):
        assert re.search(rf"\b{name}\b", written), name
