"""Sources as they are opened, and what is never shown."""

from __future__ import annotations

import builtins

import pytest

from edged.errors import LoadError
from edged.sources.opened import Settings, open_source

SETTINGS = Settings("oci", "https://r.example/", ("u", "pass:word"), hosts=("x",), timeout_s=3.0)


def test_how_it_logs_in():
    pytest.importorskip("urllib3")
    web = open_source(SETTINGS)
    assert (web.url, web.authorization) == ("https://r.example", "Basic dTpwYXNzOndvcmQ=")
    assert web.challenge is not None
    token = open_source(Settings("oci", "https://r.example", token="t"))
    assert (token.authorization, token.challenge) == ("Bearer t", None)
    assert open_source(Settings("mirror", "https://r.example")).authorization == ""


def test_secrets_are_not_shown():
    assert "word" not in f"{SETTINGS!r} {SETTINGS}"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch):
    found = builtins.__import__

    def refuse(name: str, *more: object, **named: object):
        if name.startswith(("urllib3", "edged.sources.web")):
            raise ImportError(name)
        return found(name, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LoadError, match=r"pip install 'edged\[sources\]'"):
        open_source(SETTINGS)
