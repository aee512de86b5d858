"""The same recipe in two processes: one sha256, for every framework and every precision.

Each run is a program of its own, with another seed of Python's hashes, another home and another
working folder; the second converts in the opposite order.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import json, sys
from pathlib import Path
from converters.cli import main

failed = {}
for recipe in map(Path, json.loads(sys.argv[1])):
    words = ["--recipe", str(recipe), "-o", recipe.stem + ".edgb", "--trust", "--empty-env", "off"]
    if main(words):
        failed[recipe.stem] = "see above"
sys.exit(json.dumps(failed) if failed else 0)
"""


def write_recipe(folder, name, **fields):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": "m", "release": 1, **fields}))
    return path


def convert_all(recipes, folder, seed):
    """Convert in a program of its own; the sha256 of each bundle's file."""
    folder.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    found = [str(ROOT), *(entry for entry in sys.path if entry)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps([str(recipe) for recipe in recipes])],
        cwd=folder,
        env={**kept, "PYTHONHASHSEED": seed, "HOME": str(folder), "PYTHONPATH": ":".join(found)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.edgb")
    }


def hold_twice(recipes, tmp_path):
    first = convert_all(recipes, tmp_path / "first", "1")
    second = convert_all(recipes[::-1], tmp_path / "elsewhere", "2")
    assert first == second
    assert sorted(first) == sorted(recipe.stem for recipe in recipes)
    assert len(set(first.values())) == len(first)
