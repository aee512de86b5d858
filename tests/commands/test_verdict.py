"""``edged check`` and ``edged diff``: what a reload would say, said without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edged.cli import main
from edged.commands.verdict import diff_config
from edged.config.problems import ConfigProblemsError
from edged.errors import ApplyError
from edged.generation.documents import Documents
from edged.generation.record import Record
from edged.store.floors import Floors
from edged.store.repository import Repository
from tests.fakes.site import Site
from tests.verdicts import check_config

BOUND = """\
mqtt: {host: localhost}
models:
  m: {bundle: 'm-*.edgb', aliases: {live: 1}}
bindings:
  - name: one
    from: in/{id}
    to: out/{id}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    made = Site(tmp_path)
    made.bundle("m", 1)
    made.bundle("m", 2)
    return made


class TestSlips:
    """What is there in the place of what was named."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("bundle/m-*.edgb", "/bundle/m-*.edgb; there is no such folder"),
            ("M-*.edgb", "M-*.edgb; its folder has: m-1.edgb, m-2.edgb"),
            (".", "is a folder; write ./m-*.edgb for what is in it"),
        ],
    )
    def test_of_bundles(self, site: Site, words: str, said: str) -> None:
        site.write(f"models:\n  m: {{bundle: '{words}'}}\n")
        problems, _ = check_config(site.config, with_files=True)
        assert any(one.endswith(said) for one in problems), problems

    def test_of_the_state(self, site: Site) -> None:
        site.write("models:\n  m: {bundle: 'm-*.edgb'}\n")
        site.state.write_text("no folder")
        (problem,), _ = check_config(site.config, with_files=True)
        assert problem.endswith(
            "state_dir: " + f"{site.state} is a file, where the daemon's folder is expected"
        )


class TestCheck:
    @pytest.mark.parametrize("model", ["m", "m@1", "m@live"])
    def test_good(self, site: Site, model: str) -> None:
        site.write(BOUND + f"    model: {model}\n")
        found, summary = check_config(site.config, with_files=True)
        good, unchecked = summary.splitlines()
        assert (found, good) == ([], "good: 1 model, 1 binding")
        assert unchecked.startswith(f"warning: {site.config}:3:")
        assert "bundles are taken from ANYBODY" in unchecked
        lines, summary = check_config(site.config, with_files=False)
        assert not lines
        assert "were not looked at" in summary

    def test_a_document_that_came_over_mqtt(self, site: Site) -> None:
        text = BOUND.replace("mqtt: {", "mqtt: {desired: {}, ") + "    model: m\n"
        site.write(text)
        documents = Documents(site.state / "desired")
        documents.begin(1, "sha", "models: {n: {bundle: m-1.edgb}}\n", "base")
        documents.take(1)
        found, _ = check_config(site.config, with_files=True)
        assert [one for one in found if 'holds model "m", not "n"' in one]
        documents.begin(2, "sha", "models: {m: {bundle: m-1.edgb}}\n", "base")
        documents.take(2)
        found, summary = check_config(site.config, with_files=True)
        assert found == []
        assert "is already set at" in summary
        assert "takes configuration from ANYBODY" in summary

    @pytest.mark.parametrize(
        ("rest", "path", "line"),
        [
            ("    model: m@7\n", "bindings[0].model", 11),
            ("    model: m\n    codec: image\n", "bindings[0].codec", 12),
            ("    model: m\n    input: z\n", "bindings[0].input", 12),
            ("    model: m\n    output: {tensor: z}\n", "bindings[0].output.tensor", 12),
        ],
    )
    def test_what_a_binding_needs_of_its_model(
        self, site: Site, rest: str, path: str, line: int
    ) -> None:
        site.write(BOUND + rest)
        (said,) = check_config(site.config, with_files=True)[0]
        assert said.startswith(f"{site.config}:{line}:")
        assert f": {path}: " in said
        assert check_config(site.config, with_files=False)[0] == []

    def test_what_a_rule_for_publishing_needs_of_its_model(self, site: Site) -> None:
        rule = "publish: {to: fed, output: {tensor: none}}"
        site.write(BOUND.replace("aliases: {live: 1}", rule) + "    model: m\n")
        (said,) = check_config(site.config, with_files=True)[0]
        assert ": models.m.publish.output.tensor: " in said
        assert 'has no output "none"' in said

    def test_the_second_binding_is_named_as_the_second(self, site: Site) -> None:
        second = "  - {name: two, from: b, model: m, codec: image}\n"
        site.write(BOUND + "    model: m\n" + second)
        (said,) = check_config(site.config, with_files=True)[0]
        assert f"{site.config}:12:" in said
        assert "bindings[1].codec" in said

    def test_a_model_without_a_bundle_has_one_problem(self, site: Site) -> None:
        site.write(BOUND.replace("m-*", "x-*") + "    model: m\n")
        (said,) = check_config(site.config, with_files=True)[0]
        assert "no file matches" in said

    def test_a_release_that_is_not_there_is_said_once(self, site: Site) -> None:
        site.write(BOUND.replace("aliases: {live: 1}", "serve: 9") + "    model: m\n")
        (said,) = check_config(site.config, with_files=True)[0]
        assert "release 9 is in none of the bundles" in said

    def test_a_release_below_the_floor_of_this_device(self, site: Site) -> None:
        site.write("models:\n  m:\n    bundle: m-1.edgb\n")
        site.state.mkdir()
        Floors(site.state).rise({"m": 2})
        (said,) = check_config(site.config, with_files=True)[0]
        assert said.startswith(f"{site.config}:6:13: models.m.bundle: m-1.edgb: release 1 of m is")
        assert "below the floor of this device" in said
        # What lies beside the one that serves is nobody's fault; what is asked for is.
        site.write("models:\n  m: {bundle: 'm-*.edgb'}\n")
        assert not check_config(site.config, with_files=True)[0]
        site.write("models:\n  m: {bundle: 'm-*.edgb', serve: 1}\n")
        assert any(
            "below the floor" in line for line in check_config(site.config, with_files=True)[0]
        )

    def test_broken(self, site: Site) -> None:
        site.write("models: [\n")
        lines, summary = check_config(site.config, with_files=True)
        assert len(lines) == 1
        assert not summary


class TestDiff:
    def keep(self, site: Site, state: Path) -> None:
        state.mkdir(exist_ok=True)
        Record(state, Repository(state)).keep(site.load())

    def test_against_what_was_applied_last(self, site: Site) -> None:
        site.write("models: {}\n")
        self.keep(site, site.state)
        assert diff_config(site.config, None) == ""
        site.write("models:\n  m: {bundle: m-1.edgb}\n")
        lines = (diff_config(site.config, None) or "").splitlines()
        assert lines[:2] == ["+ models.m: {bundle: m-1.edgb}", "costs:"]
        assert lines[2].startswith("  loads m release 1 (0.0 MB, by its files)")

    def test_what_a_restart_is_for(self, site: Site) -> None:
        site.write("models: {}\n")
        self.keep(site, site.state)
        site.write("models: {}\nreload: {watch: false}\n")
        assert diff_config(site.config, None).splitlines() == [
            "~ reload.watch: true -> false   (takes effect after a restart)",
            "costs:",
            "  nothing before a restart: systemctl restart edged",
        ]
        site.write("models: {}\nreload: {watch: false, confirm: {window: 1s}}\n")
        assert diff_config(site.config, None).splitlines() == [
            "~ reload.watch: true -> false   (takes effect after a restart)",
            "~ reload.confirm.window: 10s -> 1s",
            "costs:",
            "  no load, no memory, no subscription",
        ]

    def test_a_door_that_could_not_be_had_before_refuses_no_reload(
        self, site: Site, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The daemon serves without it (``edged/listeners``), and so it does after a reload."""
        door = "models: {}\nlisten:\n  admin: {path: none/s}\n"
        site.write(door)
        self.keep(site, site.state)
        site.write(door + "log: {level: debug}\n")
        assert main(["diff", "--config", str(site.config)]) == 0
        assert main(["check", "--config", str(site.config)]) == 78
        site.write(door.replace("none/s", "none/t"))
        capsys.readouterr()
        assert main(["diff", "--config", str(site.config)]) == 78
        assert "listen.admin.path: there is no folder" in capsys.readouterr().err

    def test_another_state_directory(self, site: Site, tmp_path: Path) -> None:
        site.write("models: {}\n")
        self.keep(site, tmp_path / "other")
        assert diff_config(site.config, tmp_path / "other") == ""
        with pytest.raises(ApplyError, match="holds no applied configuration yet"):
            diff_config(site.config, None)

    def test_broken(self, site: Site) -> None:
        site.write("models: [\n")
        with pytest.raises(ConfigProblemsError, match=r"edged\.yaml:5:"):
            diff_config(site.config, None)


class TestForPrograms:
    def test_bad(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        site.write("mqtt: {host: localhost, port: 018}\nmodels: {m: {bundel: x}}\n")
        assert main(["check", "--json", "--config", str(site.config)]) == 78
        document = json.loads(capsys.readouterr().out)
        assert not document["good"]
        places = [(one["line"], one["column"], one["path"]) for one in document["problems"]]
        assert (4, 31, "mqtt.port") in places
        assert (5, 14, "models.m.bundel") in places
        assert {one["file"] for one in document["problems"]} == {str(site.config)}

    def test_good(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        site.write(BOUND + "    model: m\n")
        assert main(["check", "--json", "--config", str(site.config)]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["good"]
        assert document["summary"][0] == "good: 1 model, 1 binding"

    def test_a_source_whose_token_all_can_read(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = site.directory / "token"
        path.write_text("hunter2")
        path.chmod(0o644)
        source = "{kind: oci, url: 'https://r.example', token: {file: token}}"
        site.write(f"{BOUND}    model: m\nsources: {{r: {source}}}\n")
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        _, summary = check_config(site.config, with_files=True)
        assert "sources.r.token.file: every user of this device can read it" in summary
        assert "sources: nothing can be fetched: urllib3 is not installed" in summary

    def test_a_password_that_all_can_read(self, site: Site) -> None:
        path = site.directory / "pw"
        path.write_text("hunter2")
        path.chmod(0o644)
        words = "host: localhost, username: u, password: {file: pw}"
        site.write(BOUND.replace("host: localhost", words) + "    model: m\n")
        _, summary = check_config(site.config, with_files=True)
        assert "mqtt.password.file: every user of this device can read it" in summary
        path.chmod(0o600)
        assert "can read it" not in check_config(site.config, with_files=True)[1]
