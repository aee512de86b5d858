"""The JSON schema for editors."""

from __future__ import annotations

import json

from edged.config.explain import explain
from edged.config.json_schema import json_schema


def walk(schema: dict, path: str = "") -> set[str]:
    found = set()
    for option in schema.get("anyOf", []):
        found |= walk(option, path)
    for name, inner in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        found |= {here} | walk(inner, here)
    if isinstance(schema.get("additionalProperties"), dict):
        found |= walk(schema["additionalProperties"], f"{path}.<name>")
    if "items" in schema:
        found |= walk(schema["items"], f"{path}[]")
    return found


def test_it_has_every_field_and_no_other() -> None:
    assert walk(json_schema()) == {item.path for item in explain()}


def test_it_is_json_with_constraints() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    mqtt = next(item for item in schema["properties"]["mqtt"]["anyOf"] if item["type"] == "object")
    port = mqtt["properties"]["port"]
    assert (port["minimum"], port["maximum"], port["default"]) == (1, 65535, 1883)
    level = schema["properties"]["log"]["properties"]["level"]
    assert level["enum"] == ["debug", "info", "warning", "error"]
    model = schema["properties"]["models"]["additionalProperties"]
    assert model["required"] == ["bundle"]
