"""The words of the configuration themselves: defaults must pass their own constraints."""

from __future__ import annotations

import msgspec
import pytest

from edged.config.binding import BindingConfig
from edged.config.schema import Config, ModelConfig, Section
from edged.specs import Duration, Size


def sections(base: type = Section) -> list[type]:
    own = [cls for below in base.__subclasses__() for cls in (below, *sections(below))]
    return sorted(own, key=lambda cls: cls.__name__)


def hook(kind: type, value: object) -> object:
    assert kind in (Duration, Size)
    return kind(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("cls", sections(), ids=lambda cls: cls.__name__)
def test_frozen_and_closed(cls: type) -> None:
    config = cls.__struct_config__  # type: ignore[attr-defined]
    assert config.frozen
    assert config.forbid_unknown_fields


@pytest.mark.parametrize("cls", sections(), ids=lambda cls: cls.__name__)
def test_defaults_are_allowed_values(cls: type) -> None:
    for item in msgspec.structs.fields(cls):
        if item.default is not msgspec.NODEFAULT and not isinstance(item.default, msgspec.Struct):
            wrapped = {"int": int}.get(type(item.default).__name__)
            value = wrapped(item.default) if wrapped else item.default
            msgspec.convert(value, item.type, dec_hook=hook)


def test_a_default_outside_its_range_would_be_seen() -> None:
    port = next(item for item in msgspec.structs.fields(ModelConfig) if item.name == "bundle")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("", port.type, dec_hook=hook)


def test_names() -> None:
    assert BindingConfig.__struct_encode_fields__[:2] == ("name", "from")
    assert ModelConfig(bundle="a").bundles == ("a",)
    assert ModelConfig(bundle=("a", "b")).bundles == ("a", "b")
    assert Config() == Config()
