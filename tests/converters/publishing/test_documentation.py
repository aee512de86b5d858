"""The page's own commands, copied out of it and run one after another in this process."""

import re
import shlex
import shutil

from converters.cli import main
from edged.cli import main as edged


def test_the_commands_of_the_page(root, digits_bundle, tmp_path, monkeypatch, capsys):
    page = (root / "docs" / "publishing.md").read_text()
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL)).splitlines()
    assert len(lines) == 10
    shutil.copyfile(digits_bundle.path, tmp_path / "digits-1.edgb")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        program, *words = shlex.split(line)
        run = {"edged-convert": main, "edged": edged}[program]
        assert run(words) == 0, f"{line}\n{capsys.readouterr().err}"
    # What the text says beside the commands.
    shown = "".join(re.findall(r"```console\n(.*?)```", page, re.DOTALL))
    for command in re.findall(r"^\$ (podman .*)$", shown, re.MULTILINE):
        assert f"$ {command}\n" in (tmp_path / "digits-box/README.md").read_text()
    error = re.search(r"`(signed by 1 of 2 required trusted keys) \(", page)
    assert error
    words = ["verify", "digits-1.edgb", "--key", "alice.pub", "--key", "carol.pub"]
    assert main([*words, "--threshold", "2"]) == 78
    assert error[1] in capsys.readouterr().err
