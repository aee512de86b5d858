import io

from converters.screen import Screen, shown
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


def test_names_cannot_steer_a_terminal_or_forge_a_line(capsys):
    assert shown("Größe 猫 🐍") == "Größe 猫 🐍"
    assert shown("a\x1b[31m\nerror: b\u202e\udcff\x9b") == (
        "a\\x1b[31m\\nerror: b\\u202e\\udcff\\x9b"
    )
    screen = Screen()
    screen.line("a\x1b[31m\nb")
    screen.show_tables([Table("t\x1b", ("h\r",), (("c\x07",),))])
    screen.error("x\nerror: y", "second\x1b")
    with screen.steps() as step:
        step("reading\x1b]0;title\x07")
    out = capsys.readouterr()
    assert out.out == "a\\x1b[31m\\nb\nt\\x1b\n  h\\r\n  c\\x07\n"
    assert out.err.splitlines()[:2] == ["error: x\\nerror: y", "second\\x1b"]
    assert "\x1b" not in out.err


def test_on_a_terminal_too(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    Screen().show_tables([Table("t", (), (("[red]c\x1b]0;x\x07",),))])
    out = terminal.getvalue()
    assert "\x1b]" not in out
    assert "[red]c\\x1b]0;x\\x07" in out
