import io

from converters.screen import Screen
from converters.show import Table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_steps_and_tables_on_a_terminal(monkeypatch):
    terminal = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", terminal[0])
    monkeypatch.setattr("sys.stderr", terminal[1])
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with screen.steps() as step:
        step("reading")
        step("packing")
    screen.show_tables([Table("members", ("name", "bytes"), (("[bold]model.onnx", "12"),))])
    out, err = (file.getvalue() for file in terminal)
    assert "reading" in err
    assert "packing" in err
    assert "[bold]model.onnx" in out  # names from a bundle are text, not markup
    assert "members" in out


def test_steps_in_a_pipe(capsys):
    with Screen().steps() as step:
        step("reading")
    Screen().show_tables([Table("t", (), (("a", "b"), ("longer", "c")))])
    out, err = capsys.readouterr()
    assert err == "reading …\n"
    assert out == "t\n  a       b\n  longer  c\n"
