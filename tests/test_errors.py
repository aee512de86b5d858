"""Codes, their one translation, and errors that cross the wire."""

from __future__ import annotations

import inspect

import pytest

from edged import errors
from edged.errors import (
    STATUS,
    BusyError,
    Code,
    ConfigError,
    DeadlineExceededError,
    DeniedError,
    EdgedError,
    FieldError,
    InvalidRequestError,
    ModelNotFoundError,
    QueueFullError,
    RuntimeFailureError,
    TensorMismatchError,
    error_from_wire,
    first_line,
)

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, EdgedError) and cls is not FieldError
]


@pytest.mark.parametrize("code", Code)
def test_every_code_is_said_in_other_protocols(code: Code):
    status = STATUS[code]
    assert 400 <= status.http <= 599
    assert 1 <= status.grpc <= 16
    assert 1 <= status.exit <= 125


def test_grpc_numbers_are_distinct():
    assert len({status.grpc for status in STATUS.values()}) == len(STATUS) == len(Code)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_a_code_a_message_and_a_fitting_name(cls: type[EdgedError]):
    error = cls("what, wanted, do")
    assert (error.message, str(error), error.detail) == ("what, wanted, do",) * 2 + ({},)
    assert error.code in STATUS
    assert cls.__name__.endswith("Error")
    assert cls("x", detail={"rows": 3}).detail == {"rows": 3}


def test_what_an_error_says_can_always_be_sent():
    """A step of an installed package said such a thing, and its caller waited for ever."""
    error = InvalidRequestError("no file é\udcff.txt")
    assert error.message == str(error) == "no file é\\udcff.txt"
    assert error.message.encode()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_crosses_the_wire_with_its_code(cls: type[EdgedError]):
    """The class where the table has it, else the general one of its code; never another code."""
    sent = cls("text")
    got = error_from_wire(sent.code.value, cls.__name__, sent.message)
    assert got.code is sent.code
    assert got.message == "text"
    if cls.__name__ in errors._BY_NAME:
        assert type(got) is cls


WIRE = {
    "known": (("NOT_FOUND", "ModelNotFoundError"), ModelNotFoundError),
    "unknown name": (("NOT_FOUND", "ZebraNotFoundError"), errors.NotFoundError),
    "no name": (("DEADLINE_EXCEEDED", ""), DeadlineExceededError),
    "unknown code": (("ZEBRA", "ZebraError"), RuntimeFailureError),
    "code and name disagree": (("PERMISSION_DENIED", "ModelNotFoundError"), DeniedError),
    "a class that is not ours": (("INTERNAL", "SystemExit"), RuntimeFailureError),
    "a class that is not for peers": (("INVALID_ARGUMENT", "FieldError"), InvalidRequestError),
    "a base class": (("UNAVAILABLE", "BusyError"), BusyError),
    "bundle": (("FAILED_PRECONDITION", "SignatureError"), ConfigError),
}


@pytest.mark.parametrize("name", WIRE)
def test_from_wire(name: str):
    """A peer never chooses what is constructed."""
    (code, cls_name), cls = WIRE[name]
    assert type(error_from_wire(code, cls_name, "m")) is cls


def test_retry_after_is_for_the_busy():
    busy = error_from_wire("RESOURCE_EXHAUSTED", "QueueFullError", "m", 5)
    assert isinstance(busy, QueueFullError)
    assert busy.retry_after_ns == 5
    assert BusyError("m").retry_after_ns == 0
    assert isinstance(
        error_from_wire("INVALID_ARGUMENT", "TensorMismatchError", "m", 5), TensorMismatchError
    )


def test_every_code_has_a_general_class():
    for code in Code:
        assert errors._BY_CODE[code].code is code
    for name, cls in errors._BY_NAME.items():
        assert cls.__name__ == name


def test_field_error_says_where():
    error = FieldError("models.gate.bundle", "no such file")
    assert str(error) == error.message == "models.gate.bundle: no such file"
    assert (error.path, error.reason) == ("models.gate.bundle", "no such file")
    assert str(FieldError("", "empty file")) == "empty file"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("it broke\nat line 3", "it broke"),
        ("\n\n  it broke  \n trace", "it broke  "),
        ("x" * 400, "x" * 300),
    ],
)
def test_what_others_say_in_one_line(text: str, line: str):
    assert first_line(ValueError(text)) == line
