"""What a building process leaves is data that may be wrong, and is told so by name."""

import msgspec
import pytest

from edged.engines.built import check_fingerprint
from edged.engines.job import BuildJob
from edged.errors import BuildError
from edged.runtimes.engine import Io, sha256
from tests.models import double
from tests.runtimes.test_engine import engine

MODEL = b"onnx"
JOB = BuildJob(
    model="m",
    inputs=double().inputs,
    outputs=double().outputs,
    options=engine().fingerprint.options,
    chunk=1,
)
IO = (Io("x", "float32", True, (-1, 4)), Io("y", "float32", False, (-1, 4)))


def fingerprint(**changes):
    return msgspec.structs.replace(engine().fingerprint, io=IO, **changes)


def check(found, precision="float16"):
    check_fingerprint(found, JOB, sha256(MODEL), precision)


def test_a_whole_one_is_taken():
    check(fingerprint())
    check(fingerprint(host=msgspec.structs.replace(engine().fingerprint.host, driver="")))


@pytest.mark.parametrize("name", type(engine().fingerprint.host).__struct_fields__)
def test_every_field_of_the_host_has_to_be_there(name):
    host = engine().fingerprint.host
    empty = {"processors": 0}.get(name, "")
    found = fingerprint(host=msgspec.structs.replace(host, **{name: empty, "l4t": ""}))
    if name == "l4t":
        check(found)
        return
    with pytest.raises(BuildError, match=f"fingerprint lacks {name}"):
        check(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"onnx_sha256": sha256(b"other")}, "of another model"),
        ({"options": msgspec.structs.replace(JOB.options, level=1)}, "of other options"),
        ({"io": IO[:1]}, "other inputs and outputs"),
        ({"built": {}}, "lacks built"),
        ({"built": {"FLOAT": 3}}, "is float16; the engine has layers of 3 FLOAT"),
    ],
)
def test_another_engine_than_was_asked_for(changes, words):
    found = msgspec.structs.replace(fingerprint(), **changes)
    with pytest.raises(BuildError, match=words):
        check(found)


def test_float32_asks_for_no_low_precision():
    check(fingerprint(built={"FLOAT": 3}), "float32")
    with pytest.raises(BuildError, match="is int8"):
        check(fingerprint(built={"FLOAT": 3}), "int8")
