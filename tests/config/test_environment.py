"""``${NAME}`` in values: only those that are listed, and never a surprise."""

from __future__ import annotations

import pytest

from edged.config.load import load_saved, save
from tests.config.conftest import Site

LISTED = "environment: [SITE, PORT, NOT_SET]\n"


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE", "hall-3")
    monkeypatch.setenv("PORT", "8883")
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOT_SET", raising=False)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${SITE}", "hall-3"),
        ("edge-${SITE}-${PORT}", "edge-hall-3-8883"),
        ('"${SITE}"', "hall-3"),
        ("${NOT_SET:-a}", "a"),
        ("${SITE:-a}", "hall-3"),
        ("${NOT_SET:-}x", "x"),
    ],
)
def test_put_in(site: Site, written: str, value: str) -> None:
    site.write(f"{LISTED}node: {written}\n")
    assert site.load().config.node == value


def test_a_number_stays_a_number_and_quotes_make_it_text(site: Site) -> None:
    site.write(LISTED + "mqtt: {host: h, port: '${PORT}'}\n")
    assert "in quotes" in site.problem().message
    site.write(LISTED + "mqtt: {host: h, port: ${PORT}}\n".replace("{host", "\n  host", 1)
               .replace(", port", "\n  port", 1).replace("}}", "}"))  # fmt: skip
    mqtt = site.load().config.mqtt
    assert mqtt is not None
    assert mqtt.port == 8883


@pytest.mark.parametrize("head", ["", "environment: []\n"])
def test_without_a_list_it_is_text(site: Site, head: str) -> None:
    site.write(head + "mqtt:\n  host: h\n  username: a/${SITE}\n")
    mqtt = site.load().config.mqtt
    assert mqtt is not None
    assert mqtt.username == "a/${SITE}"


def test_written_as_text(site: Site) -> None:
    site.write(LISTED + "mqtt:\n  host: h\n  username: a/$${SITE}/$x\n")
    mqtt = site.load().config.mqtt
    assert mqtt is not None
    assert mqtt.username == "a/${SITE}/$x"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("${SECRET}", "not listed"),
        ("${SITF}", 'did you mean "SITE"'),
        ("${NOT_SET}", "is not set where this runs"),
        ("${}", "names no variable"),
        ("${a b}", "names no variable"),
        ("${SITE:?x}", "names no variable"),
    ],
)
def test_refused(site: Site, written: str, message: str) -> None:
    site.write(f"{LISTED}mqtt:\n  host: {written}\n")
    problems = [str(problem) for problem in site.problems()]
    assert any(f"edged.yaml:3:9: mqtt.host: {message.split(maxsplit=1)[0]}" in one or message in one
               for one in problems)  # fmt: skip
    assert "hunter2" not in "".join(problems)


@pytest.mark.parametrize("value", ["a\nb", "\x1b[2J", "x" * 5000])
def test_values_that_no_file_could_have(
    site: Site, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SITE", value)
    site.write(LISTED + "mqtt:\n  host: ${SITE}\n")
    assert any("holds what no value may" in one.message for one in site.problems())


def test_what_was_put_in_is_not_repeated(site: Site) -> None:
    site.write(LISTED + "mqtt:\n  host: h\n  keepalive: ${SITE}\n")
    assert '"${SITE}"' in site.problem().message
    assert "hall-3" not in site.problem().message


@pytest.mark.parametrize("name", ["1A", "A-B", "x" * 65])
def test_names_that_are_none(site: Site, name: str) -> None:
    site.write(f"environment: [{name}]\n")
    assert site.problem().path == "environment[0]"


def test_where_the_state_is_may_not_depend_on_it(site: Site) -> None:
    site.write(LISTED + "state_dir: /x/${SITE}\n")
    assert site.load().config.state_dir == "/x/${SITE}"


def test_keys_are_left_alone(site: Site) -> None:
    site.write(LISTED + "models:\n  ${SITE}:\n    bundle: x\n")
    assert "models" in site.problems()[0].path


def test_another_environment_is_another_configuration(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write(LISTED + "node: ${SITE}\n")
    before = site.load()
    save(before, site.root / "saved")
    monkeypatch.setenv("SITE", "hall-4")
    assert site.load().digest != before.digest
    monkeypatch.setenv("PORT", "1")  # of no use to it
    monkeypatch.setenv("SITE", "hall-3")
    assert site.load().digest == before.digest
    assert load_saved(site.root / "saved").config.node == "hall-3"
    assert b"hall-3" not in b"".join(before.files.values())
