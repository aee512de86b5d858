"""The configuration's JSON schema, for editors that complete and check YAML while one types.

Decides how our types are said in JSON schema 2020-12. The loader does not use it: it is stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

import msgspec

from edged.config.convert import Option, is_list, is_map, is_struct, options
from edged.config.explain import description
from edged.config.schema import Config
from edged.specs import Duration, Size

_PATTERNS = {
    Duration: r"^([0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|min|h)|0)$",
    Size: r"^([0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|kB|MB)|0)$",
}
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def json_schema() -> dict[str, Any]:
    """The schema as a JSON-able dict."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edged.yaml",
        **_struct(Config),
    }


def _struct(cls: Any) -> dict[str, Any]:
    fields = msgspec.structs.fields(cls)
    schema: dict[str, Any] = {
        "type": "object",
        "description": (cls.__doc__ or "").strip().split("\n")[0],
        "properties": {item.encode_name: _field(item) for item in fields},
        "additionalProperties": False,
    }
    required = [item.encode_name for item in fields if item.required]
    if required:
        schema["required"] = required
    return schema


def _field(item: Any) -> dict[str, Any]:
    choices = options(item.type)
    schema = _choices(choices)
    words = description(choices)
    if words:
        schema["description"] = words
    if item.default is None or type(item.default) in (str, bool, int, float):
        schema["default"] = item.default
    return schema


def _choices(choices: Sequence[Option]) -> dict[str, Any]:
    if len(choices) == 1:
        return _option(choices[0])
    return {"anyOf": [_option(option) for option in choices]}


def _option(option: Option) -> dict[str, Any]:
    base = option.base
    if is_struct(base):
        return _struct(base)
    if is_list(base):
        return {"type": "array", "items": _choices(options(get_args(base)[0]))}
    if is_map(base):
        key, value = get_args(base)
        return {
            "type": "object",
            "propertyNames": _choices(options(key)),
            "additionalProperties": _choices(options(value)),
        }
    if get_origin(base) is Literal:
        return {"enum": list(get_args(base))}
    if base in _PATTERNS:
        return {"anyOf": [{"type": "string", "pattern": _PATTERNS[base]}, {"const": 0}]}
    return {"type": _SIMPLE[base], **_constraints(option)}


def _constraints(option: Option) -> dict[str, Any]:
    said: dict[str, Any] = {}
    names = {
        "ge": "minimum",
        "le": "maximum",
        "pattern": "pattern",
        "min_length": "minLength",
        "max_length": "maxLength",
    }
    for meta in option.metas:
        for ours, theirs in names.items():
            value = getattr(meta, ours)
            if value is not None:
                said[theirs] = value
    if "pattern" in said:
        # JSON schema's patterns are ECMAScript's, where $ is the very end and \Z is unknown.
        said["pattern"] = said["pattern"].replace(r"\Z", "$")
    return said
