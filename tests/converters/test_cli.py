import hashlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import zipfile

import onnx
import pytest

from converters import cli
from converters.cli import main
from converters.errors import ConversionError
from converters.pack import write_zip


def run(capsys, *words):
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_convert_without_the_word_and_in_plain_lines(linear, tmp_path, capsys):
    recipe = linear()
    words = ["--name", "m", "--release", "2", "--samples", recipe.samples, "--features", "a,b,c"]
    code, out, err = run(capsys, recipe.source, "-o", tmp_path / "m.edgb", *words)
    assert code == 0, err
    assert "m release 2 (2.0.0)" in out
    assert "proving rows and numbers" in err
    assert "\x1b" not in out + err
    code, out, _ = run(capsys, "inspect", tmp_path / "m.edgb")
    assert code == 0
    for words in ("float32[batch,3]", "columns a, b, c", "nobody", "recipe_sha256", "model.onnx"):
        assert words in out


def test_a_recipe_file_is_enough(linear, tmp_path, capsys):
    linear()
    (tmp_path / "r.yaml").write_text(
        "source: linear.onnx\nsamples: rows.npy\nname: m\nrelease: 1\n"
    )
    code, _, err = run(
        capsys, "convert", "--recipe", tmp_path / "r.yaml", "-o", tmp_path / "m.edgb"
    )
    assert code == 0, err


def test_keygen_sign_verify(linear, tmp_path, capsys):
    recipe = linear()
    bundle = tmp_path / "m.edgb"
    words = ["--name", "m", "--release", "1", "--samples", recipe.samples]
    assert run(capsys, recipe.source, "-o", bundle, *words)[0] == 0
    assert run(capsys, "keygen", tmp_path / "site")[0] == 0
    assert (tmp_path / "site.key").stat().st_mode & 0o777 == 0o600
    assert run(capsys, "keygen", tmp_path / "site")[0] == 78
    code, _, err = run(capsys, "verify", bundle, "--key", tmp_path / "site.pub")
    assert code == 78
    assert err.startswith("error: signed by 0 of 1")
    assert err.count("\n") == 1
    assert run(capsys, "sign", bundle, "--key", tmp_path / "site.key")[0] == 0
    code, out, _ = run(capsys, "verify", bundle, "--key", tmp_path / "site.pub", "--run")
    assert code == 0
    assert 'golden "y": ok' in out
    assert "signature: ok" in out


def test_every_tampered_member_fails_verify(linear, tmp_path, capsys):
    recipe = linear()
    bundle = tmp_path / "m.edgb"
    words = ["--name", "m", "--release", "1", "--samples", recipe.samples]
    run(capsys, "keygen", tmp_path / "site")
    words += ["--key", tmp_path / "site.key"]
    assert run(capsys, recipe.source, "-o", bundle, *words)[0] == 0
    good = bundle.read_bytes()
    with zipfile.ZipFile(bundle) as archive:
        spots = [
            (info.filename, info.header_offset + 30 + len(info.filename) + 20)
            for info in archive.infolist()
        ]
    assert len(spots) == 4
    for name, spot in spots:
        bad = bytearray(good)
        bad[spot] ^= 1
        bundle.write_bytes(bad)
        code, _, err = run(capsys, "verify", bundle, "--key", tmp_path / "site.pub")
        assert code == 78, name
        assert err.startswith("error: ")


def test_a_changed_model_with_a_right_crc_fails_its_hash(linear, tmp_path, capsys):
    recipe = linear()
    bundle = tmp_path / "m.edgb"
    run(
        capsys,
        recipe.source,
        "-o",
        bundle,
        "--name",
        "m",
        "--release",
        1,
        "--samples",
        recipe.samples,
    )
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    from converters.pack import write_zip

    model = bytearray(members["model.onnx"])
    model[-40] ^= 1
    write_zip(
        bundle,
        members["manifest.json"],
        None,
        {"model.onnx": bytes(model), "golden.safetensors": members["golden.safetensors"]},
    )
    code, _, err = run(capsys, "verify", bundle)
    assert code == 78
    assert '"model.onnx"' in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["missing.onnx"], 65, "no such file"),
        (["weights.pt"], 65, "nothing that PyTorch wrote"),
        (["model.joblib"], 77, "--trust"),
        (["net:build"], 77, "module:factory runs the module's code"),
        (["model.pt2"], 77, "unpickles"),
        (["model.h5"], 65, "nothing that Keras wrote"),
        (["odd.bin"], 65, "not a kind that is known"),
    ],
)
def test_errors_are_one_line_and_a_code(tmp_path, monkeypatch, capsys, words, code, text):
    monkeypatch.chdir(tmp_path)
    for name in ("weights.pt", "model.joblib", "model.h5", "odd.bin"):
        (tmp_path / name).write_bytes(b"not opened")
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    rest = ["-o", "m.edgb", "--name", "m", "--release", "1", "--samples", "s.npz"]
    got, out, err = run(capsys, *words, *rest)
    assert got == code
    assert text in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out


def test_a_missing_bundle_or_key(tmp_path, capsys, linear):
    assert run(capsys, "inspect", tmp_path / "none.edgb")[0] == 78
    recipe = linear()
    words = [
        "--name",
        "m",
        "--release",
        "1",
        "--samples",
        recipe.samples,
        "--key",
        tmp_path / "no.key",
    ]
    code, _, err = run(capsys, recipe.source, "-o", tmp_path / "m.edgb", *words)
    assert code == 78
    assert "reading samples" not in err  # told before anything slow


HEAVY = {
    *("numpy", "onnx", "onnxruntime", "msgspec", "yaml", "rich", "cryptography", "asyncio"),
    *("torch", "tensorflow", "keras", "sklearn", "jax", "pandas", "mlflow", "bentoml"),
}


@pytest.mark.parametrize("words", [["--help"], ["convert", "--help"], ["keygen", "--help"]])
def test_help_imports_nothing_heavy(words):
    """What makes ``--help`` answer at once: the interpreter's own modules and argparse."""
    code = (
        "import sys\nfrom converters.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"print('imported:', sorted(set({sorted(HEAVY)!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "usage: edged-convert" in done.stdout
    assert done.stderr.strip() == "imported: []"


def test_a_report_is_written_beside_and_diff_holds_two_bundles(linear, tmp_path, capsys):
    recipe = linear()
    words = [recipe.source, "--samples", recipe.samples, "--name", "m"]
    code, out, _ = run(capsys, *words, "--release", "1", "-o", tmp_path / "a.edgb")
    assert code == 0
    assert f"report: {tmp_path / 'a.report.html'}" in out
    code, out, _ = run(
        capsys, *words, "--release", "2", "-o", tmp_path / "b.edgb", "--no-report", "--opset", "19"
    )
    assert code == 0
    assert not (tmp_path / "b.report.html").exists()
    code, out, _ = run(capsys, "diff", tmp_path / "a.edgb", tmp_path / "b.edgb")
    assert code == 0
    assert "opset 18 19" in " ".join(out.split())
    code, out, _ = run(capsys, "report", tmp_path / "b.edgb", "--json", tmp_path / "b.json")
    assert code == 0
    assert (tmp_path / "b.report.html").exists()
    assert (tmp_path / "b.json").exists()


def _run(*words, **options):
    command = [sys.executable, "-m", "converters.cli", *map(str, words)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, **options)


def test_closed_and_full_streams_end_in_a_sentence(digits_bundle):
    shut = _run("inspect", digits_bundle.path, preexec_fn=lambda: os.close(1))
    assert (shut.returncode, shut.stderr) == (0, "")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = _run("inspect", digits_bundle.path, stdout=full)
    assert (done.returncode, done.stderr) == (70, "error: No space left on device\n")


def test_what_nobody_foresaw_is_one_sentence_too(monkeypatch, capsys, digits_bundle):
    failing: list[Exception] = []

    def broken(*_arguments):
        raise failing[-1]

    monkeypatch.setitem(cli._COMMANDS, "inspect", broken)
    for failure, words in (
        (
            ModuleNotFoundError("No module named 'onnx'", name="onnx"),
            "onnx is not installed: on the",
        ),
        (KeyError("x\ny"), "something failed inside edged-convert: KeyError: "),
        (MemoryError(), "out of memory"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (OSError(5, "Input/output error", "f\x1b"), "f\\x1b: Input/output error"),
    ):
        failing.append(failure)
        assert main(["inspect", str(digits_bundle.path)]) == 70
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {words}")
    monkeypatch.setenv("EDGED_TRACEBACK", "1")
    with pytest.raises(OSError, match="Input/output"):
        main(["inspect", str(digits_bundle.path)])


def test_a_word_of_the_command_line_is_said_back_as_text(capsys):
    with pytest.raises(SystemExit):
        main(["inspect", "a", "b\x1b[31m"])
    assert "b\\x1b[31m" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_says_that_the_bundle_is_there(
    linear, tmp_path, capsys, monkeypatch
):
    recipe = linear()
    failing = ConversionError("m.report.html: cannot be written: File too large")

    def fail(*_arguments):
        raise failing

    monkeypatch.setattr("converters.report.write.write_report", fail)
    words = [recipe.source, "-o", str(tmp_path / "m.edgb"), "--name", "m", "--release", "1"]
    assert main([*words, "--samples", recipe.samples, "--empty-env", "off"]) == 65
    assert f"(the bundle {tmp_path / 'm.edgb'} is made, and whole)" in capsys.readouterr().err


def test_a_model_that_is_not_its_manifests_is_no_bug_of_ours(linear, tmp_path, capsys):
    """Renamed outputs or other shapes: hashes and the file's form are right, its answers are not."""
    recipe = linear()
    words = [recipe.source, "-o", tmp_path / "m.edgb", "--name", "m", "--release", 1]
    words += ["--samples", recipe.samples, "--empty-env", "off", "--no-report"]
    assert run(capsys, *words)[0] == 0
    with zipfile.ZipFile(tmp_path / "m.edgb") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    honest = onnx.load_model_from_string(members["model.onnx"])
    for change, told in (("output", 'has no output "y"'), ("input", "is not the manifest's")):
        model = onnx.ModelProto.FromString(honest.SerializeToString())
        values = model.graph.output if change == "output" else model.graph.input
        for node in model.graph.node:
            names = node.output if change == "output" else node.input
            for place, name in enumerate(names):
                if name == values[0].name:
                    names[place] = "other"
        values[0].name = "other"
        data = model.SerializeToString()
        manifest = json.loads(members["manifest.json"])
        for entry in manifest["members"]:
            if entry["name"] == "model.onnx":
                entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
        rest = {name: members[name] for name in members if name != "manifest.json"}
        write_zip(tmp_path / "n.edgb", text, None, {**rest, "model.onnx": data})
        for command in (["verify", "--run"], ["report"]):
            code, _, err = run(capsys, *command, tmp_path / "n.edgb")
            assert (code, told in err) == (78, True), err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_kill_and_a_closed_terminal_take_everything_back(monkeypatch, capsys, number):
    tidied = []

    def command(*_arguments):
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            tidied.append(number)

    monkeypatch.setitem(cli._COMMANDS, "inspect", command)
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_DFL)
    try:
        assert main(["inspect", "x"]) == 143
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (tidied, capsys.readouterr().err) == ([number], "error: terminated\n")


def test_ctrl_c_while_a_library_is_loaded(monkeypatch, capsys):
    def command(*_arguments):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as exc:
            raise ImportError("initialization failed") from exc

    monkeypatch.setitem(cli._COMMANDS, "inspect", command)
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["converters", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("converters", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: edged-convert ")
