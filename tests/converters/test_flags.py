"""The command line's words, without anything that runs; what they come to is test_given.py's."""

import pytest

from converters.flags import COMMANDS, build_parser


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_takes(command, capsys):
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args([command, "--help"])
    assert end.value.code == 0
    assert f"edged-convert {command}" in capsys.readouterr().out


def test_what_is_no_command(capsys):
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args(["convret"])
    assert end.value.code == 2
    assert "convert" in capsys.readouterr().err
