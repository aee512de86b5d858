"""Trust documents from the command line, to the device that goes by them."""

from __future__ import annotations

from pathlib import Path
from shutil import copy

import pytest

from converters.cli import main
from edged.cli import main as edged
from edged.store.trust_document import check_self, check_successor, parse_trust
from tests.bundles import make_bundle
from tests.models import double


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("r1", "r2", "n1", "a", "b"):
        assert main(["keygen", name]) == 0
    return tmp_path


def run(line: str) -> int:
    return main(line.split())


def test_two_documents_and_their_signatures(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = "trust -o one.trust --root r1.pub --root r2.pub --root-threshold 2 --release a.pub"
    assert run(f"{made} --expires 2099-01-01 --floor m@2") == 0
    assert "to be signed by 2 of its 2 root keys" in capsys.readouterr().out
    for key in ("r1", "r2"):
        assert run(f"sign one.trust --key {key}.key") == 0
    one = parse_trust((keys / "one.trust").read_bytes())
    check_self(one)
    new = "trust -o two.trust --from one.trust --root r1.pub --root n1.pub --release b.pub"
    assert run(f"{new} --revoke a.pub --floor n@7 --expires never") == 0
    assert "and 2 of the 2 of version 1" in capsys.readouterr().out
    for key in ("r1", "r2", "n1"):
        assert run(f"sign two.trust --key {key}.key") == 0
    two = parse_trust((keys / "two.trust").read_bytes())
    check_successor(one, two)
    assert (two.document.version, two.document.root.threshold) == (2, 2)
    assert two.document.floors == {"m": 2, "n": 7}
    assert two.document.last_day is None
    assert len(two.document.revoked) == 1
    capsys.readouterr()
    assert run("trust -o three.trust --from two.trust") == 0
    three = parse_trust((keys / "three.trust").read_bytes())
    assert (three.document.root, three.document.revoked) == (
        two.document.root,
        two.document.revoked,
    ), "a device that missed the second version would serve on what a stolen key signed"
    assert run("trust -o four.trust --from three.trust --release a.pub") == 0
    four = parse_trust((keys / "four.trust").read_bytes())
    assert four.document.revoked == (), "named again by hand"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trust -o x --release a.pub", "--root: name at least one public key"),
        ("trust -o x --root r1.pub", "--release: name at least one public key"),
        (
            "trust -o x --root r1.pub --release a.pub --root-threshold 2",
            "2 signatures are required",
        ),
        ("trust -o x --root r1.pub --release a.pub --expires soon", "no trust document"),
        ("trust -o x --root r1.pub --release a.pub --expires 2027-02-30", "is no day"),
        ("trust -o x --root r1.pub --release a.pub --floor m", "expected MODEL@N"),
        ("trust -o x --root r1.pub --release a.pub --floor m@0", "no trust document"),
        ("trust -o x --root r1.pub --release a.pub --revoke a.pub", "is a release key of the same"),
        ("trust -o x --root r1.key --release a.pub", "r1.key: a private key"),
        ("trust -o x --from nowhere", "nowhere cannot be read"),
        ("sign r1.pub --key r1.key", ""),
    ],
)
def test_refused(keys: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert run(line) != 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (keys / "x").exists()


def test_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of docs/operations.md about it, in its order, on one machine."""
    page = Path("docs/operations.md").read_text().split("### Keys that can be changed", 1)[1]
    page = page.split("\n## ", 1)[0]
    lines = [line[2:] for line in page.splitlines() if line.startswith("$ ")]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for name in ("state", "bundles"):
        (tmp_path / name).mkdir()
    assert main(["keygen", "site"]) == 0
    for release in (1, 2):
        make_bundle(
            Path(f"digits-{release}.edgb"), double(), name="digits", release=release, key="site.key"
        )
        copy(f"digits-{release}.edgb", "bundles")
    configure("{keys: [site.pub]}")
    for line in " && ".join(one.partition("#")[0] for one in lines).split("&&"):
        words = [word for word in line.split() if word != "--wait"]  # for a daemon: none is here
        if "keygen release2" in line:
            configure("{root: site.trust}")
            assert edged(["check", "--config", "edged.yaml"]) == 0, "all is signed by its key"
        if words[0] == "edged-convert":
            assert main(words[1:]) == 0, line
        else:
            assert edged([*words[2:], "--config", "edged.yaml"]) == 0, line
    (kept,) = {(tmp_path / "state" / name).read_bytes() for name in ("trust.json", "trust-2.json")}
    assert b'\\"version\\":2' in kept
    assert edged(["check", "--config", "edged.yaml"]) == 0, "nothing is signed by old keys alone"


def configure(trust: str) -> None:
    models = "models: {digits: {bundle: bundles/digits-*.edgb}}"
    Path("edged.yaml").write_text(f"trust: {trust}\n{models}\n")
