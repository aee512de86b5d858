"""Many conversions in one process, so that a framework that takes seconds to import is imported once.

Everything is the workflow's own but the boundary of the throw-away process (tests of its own hold
that), so that a test may also switch a remedy off: ``off`` names what is replaced by what.
``python many.py CASES`` is the child.
"""

import ast
import fcntl
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from converters.sandbox import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Outcome:
    """What came of one conversion; ``error`` is empty where it worked."""

    error: str = ""
    kind: str = ""
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    opset: int = 0
    traps: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    max_abs: float = 0.0
    digest: str = ""


def case(source, samples, off=None, **fields):
    """One conversion: ``off`` is ``{"module:name.name": "python expression"}``."""
    recipe = {"source": source, "samples": samples, "name": "m", "release": 1, **fields}
    return {"recipe": recipe, "off": off or {}}


def make_once(tmp_path_factory, name, make):
    """A folder that ``make(folder)`` fills, the same one for all test processes of a run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".made").exists():
            make(folder)
            (folder / ".made").touch()
    return folder


def outcomes_once(folder, cases):
    """What ``convert_many`` gives, run by the first test process that asks."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "outcomes.json").exists():
            return convert_many(folder, cases)
    found = json.loads((folder / "outcomes.json").read_text())
    return {name: Outcome(**outcome) for name, outcome in found.items()}


def convert_many(folder, cases):
    """Run named cases, one after another, in one child whose working folder is ``folder``."""
    (folder / "cases.txt").write_text(repr(cases))
    paths = [str(ROOT), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, __file__, "cases.txt"],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "outcomes.json").read_text())
    return {name: Outcome(**outcome) for name, outcome in found.items()}


def _run_here(job, samples, _timeout_s, _python=None):
    from converters import sandbox, worker
    from converters.errors import ConversionError

    with tempfile.TemporaryDirectory() as name:
        try:
            result = worker._write(Path(name), worker._export(job, samples), job.batch)
        except ConversionError:
            raise
        except Exception as exc:
            traceback.print_exc()
            raise ConversionError(f"{job.framework} failed: {type(exc).__name__}: {exc}") from exc
        return sandbox._collect(Path(name), result)


def _convert(fields):
    from converters.recipe import make_recipe
    from converters.workflow import convert
    from edged.errors import EdgedError

    try:
        report = convert(make_recipe(fields), "many.edgb", trust=True, empty_env="off")
    except EdgedError as exc:
        return Outcome(error=exc.message, kind=type(exc).__name__)
    except Exception as exc:  # the other cases go on; no test expects this kind
        traceback.print_exc()
        return Outcome(error=repr(exc), kind="crash")
    manifest = report.manifest
    return Outcome(
        inputs=[f"{entry.name} {entry.spec()}" for entry in manifest.inputs],
        outputs=[f"{entry.name} {entry.spec()}" for entry in manifest.outputs],
        opset=manifest.artefacts[0].opset,
        traps=[entry["trap"] for entry in manifest.provenance.get("remedies", ())],
        warnings=list(report.warnings),
        max_abs=max(result.max_abs for result in report.parity),
        digest=report.digest,
    )


def _switch(place, expression):
    """Replace ``module:name.name``; gives what puts it back."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *way, last = path.split(".")
    for name in way:
        owner = getattr(owner, name)
    before = getattr(owner, last)
    setattr(owner, last, eval(expression, {"before": before, "owner": owner}))
    return lambda: setattr(owner, last, before)


def main(path):
    from converters import workflow

    workflow.run_source = _run_here
    outcomes = {}
    sys.path.insert(0, ".")
    for name, entry in ast.literal_eval(Path(path).read_text()).items():
        undo = [_switch(place, expression) for place, expression in entry["off"].items()]
        outcomes[name] = vars(_convert(entry["recipe"]))
        for step in undo:
            step()
    Path("outcomes.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1])
