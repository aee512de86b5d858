"""A batch file as jobs, and every problem of it with its line."""

import numpy as np
import pytest

from converters.batch.plan import Wish, read_batch
from converters.errors import ConversionError


def jobs_of(path, **said):
    return read_batch(path, Wish(output=path.parent / "out", **said))


def test_models_times_targets_in_the_order_of_the_file(two):
    jobs = jobs_of(two)
    assert [job.name for job in jobs] == ["a-1-cpu.edgb", "a-1-jetpack6.edgb", "b-2.edgb"]
    assert [job.recipe.target for job in jobs] == ["cpu", "jetpack6", "cpu"]
    assert jobs[2].recipe.source == str(two.parent / "b.onnx")
    assert jobs[0].output == str(two.parent / "out" / "a-1-cpu.edgb")
    assert len({job.fingerprint for job in jobs}) == 3


def test_precisions_for_each_target(models):
    text = (
        "models:\n  - {recipe: r.yaml, targets: [cpu, jetpack6], precisions: [float32, int8]%s}\n"
    )
    jobs = jobs_of(models(text % ", calibration: rows.npy"))
    assert [job.name for job in jobs] == [
        *("a-1-cpu-float32.edgb", "a-1-cpu-int8.edgb"),
        *("a-1-jetpack6-float32.edgb", "a-1-jetpack6-int8.edgb"),
    ]
    assert [job.recipe.precision for job in jobs] == ["float32", "int8"] * 2
    assert jobs[1].recipe.calibration.startswith("/")
    with pytest.raises(ConversionError, match=r"2:5: models\[0\]: precision int8: expected a cal"):
        jobs_of(models(text % ""))


def test_what_is_said_in_the_file_wins_over_the_recipe(models):
    [job] = jobs_of(models("models:\n  - {recipe: r.yaml, release: 7, python: envs/bin/python}\n"))
    assert (job.name, job.recipe.release) == ("a-7.edgb", 7)
    assert job.recipe.python.endswith("/envs/bin/python")
    assert not job.python  # the file names it, so the conversion asks for --trust


def test_a_lock_is_held_to_and_made_only_on_request(two):
    assert [job.lock_mode for job in jobs_of(two)] == ["", "", ""]
    assert [job.lock_mode for job in jobs_of(two, lock=True)] == ["write", "write", ""]
    (two.parent / "r.lock.json").write_text("{}")
    assert [job.lock_mode for job in jobs_of(two)] == ["check", "check", ""]
    assert [job.lock_mode for job in jobs_of(two, update_lock=True)] == ["update", "update", ""]


def test_the_fingerprint_is_of_contents_and_of_what_the_user_says(two):
    before = [job.fingerprint for job in jobs_of(two)]
    assert [job.fingerprint for job in jobs_of(two)] == before
    (two.parent / "b.onnx").touch()
    assert [job.fingerprint for job in jobs_of(two)] == before
    assert jobs_of(two, python="python3")[0].fingerprint != before[0]
    assert jobs_of(two, empty_env="require")[0].fingerprint != before[0]
    np.save(two.parent / "rows.npy", np.ones((9, 3), "f4"))
    assert not set(before) & {job.fingerprint for job in jobs_of(two)}
    (two.parent / "a.onnx").unlink()
    assert [bool(job.fingerprint) for job in jobs_of(two)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: []\n", ["1:9: models: found 0 entries; expected a list"]),
        ("model: []\n", ['1:1: model: unknown name "model" (did you mean "models"?)', 'needs "models"']),
        (
            "models:\n  - sorce: x\n  - {recipe: r.yaml, release: one}\n",
            ['2:5: models[0].sorce: unknown name "sorce"', "3:31: models[1].release: found"],
        ),
        ("models:\n  - {recipe: r.yaml, targets: [cpu, jetpack9]}\n", ["2:37: models[0].targets[1]"]),
        ("models:\n  - {recipe: r.yaml, trust: true}\n", ['models[0].trust: unknown name "trust"']),
        (
            "models:\n  - recipe: none.yaml\n  - source: a.onnx\n",
            ["2:5: models[0]: ", "none.yaml: No such file", "3:5: models[1]: needs name, release"],
        ),
        ("models:\n  - {recipe: r.yaml}\n  - {recipe: r.yaml}\n", ['3:5: models[1]: makes "a-1.edgb"']),
        ("models:\n  - {recipe: r.yaml, targets: [cpu, cpu]}\n", ["names a target twice"]),
        ("models:\n  - {recipe: r.yaml, kind: ONNX!}\n", ["2:5: models[0]: r.yaml: "]),
        ("a: [", ["cannot be read as YAML"]),
        ("", ["says nothing"]),
    ],
)  # fmt: skip
def test_every_problem_has_its_line(models, text, expected):
    path = models(text)
    with pytest.raises(ConversionError) as error:
        jobs_of(path)
    lines = str(error.value).splitlines()
    assert len(lines) == len([words for words in expected if "No such" not in words])
    assert all(line.startswith(str(path)) for line in lines)
    for words in expected:
        assert words in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConversionError, match=r"none\.yaml: No such file"):
        jobs_of(tmp_path / "none.yaml")


def test_code_behind_a_factory_counts_and_an_alias_cannot_be_told(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = models(
        "models:\n  - {source: 'net:build', name: n, release: 1}\n"
        "  - {source: 'models:/n@best', name: m, release: 1}\n"
    )
    (tmp_path / "net.py").write_text("def build(): ...")
    before, alias = (job.fingerprint for job in jobs_of(path))
    assert before
    assert not alias
    (tmp_path / "net.py").write_text("def build(): return 1")
    assert jobs_of(path)[0].fingerprint != before
