"""The reference of parameter files, from `params/schema/*.json`, and of packages, from docstrings.

{keys} study         every key of a study file, with type, default and meaning
{package} sar        every module of a package, by autodoc
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

SCHEMAS = Path(__file__).parents[2] / "params" / "schema"


def pages(name: str) -> Iterator[str]:
    """Markdown lines on the schema `name`: each of its objects, with a table of its keys.

    Raises:
        ValueError: for a key without a description.
    """
    schema = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    for title in _in_order(schema):
        yield from _object(schema if title == schema["title"] else schema["$defs"][title], title)


def _in_order(schema: dict[str, Any]) -> list[str]:
    """Names of all objects, each before those that its keys hold."""
    found = [schema["title"]]
    for title in found:
        part = schema if title == schema["title"] else schema["$defs"][title]
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(part.get("properties", {}))):
            if name not in found:
                found.append(name)
    return found


def _object(schema: dict[str, Any], title: str) -> Iterator[str]:
    about, _, documented = schema.get("description", "").partition("Attributes:")
    attributes = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", documented, re.M))
    yield from ("", f"## {title}", "", about.strip(), "")
    yield from ("| key | type | default | meaning |", "| --- | --- | --- | --- |")
    needed = schema.get("required", ())
    for key, value in sorted(schema["properties"].items(), key=lambda pair: pair[0] not in needed):
        meaning = value.get("description") or attributes.get(key) or _only(value)
        if meaning is None:
            raise ValueError(f"params/schema: {title}.{key} has no description; write a docstring")
        default = "needed" if key in needed else _default(value)
        yield f"| `{key}` | {_type(value)} | {default} | {_cell(meaning)} |"


def _only(value: dict[str, Any]) -> str | None:
    """Of a key that can have one value, such as the `kind` of a source."""
    return (
        f"Always `{value['const']}`: it says which of several this is."
        if "const" in value
        else None
    )


def _default(value: dict[str, Any]) -> str:
    if "default" not in value or (isinstance(value["default"], dict) and value["default"]):
        return "see there"
    return f"`{json.dumps(value['default'], ensure_ascii=False)}`"


def _type(value: dict[str, Any]) -> str:
    """What a value has to be, in words; other objects are links."""
    if "$ref" in value:
        title = value["$ref"].rpartition("/")[2]
        return f"[{title}](#{title.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return " or ".join(f"`{each}`" for each in value["enum"])
    for several in ("anyOf", "oneOf"):
        if several in value:
            return " or ".join(_type(each) for each in value[several])
    kind = value.get("type")
    if kind == "array":
        return _list(value)
    if kind == "object":
        names = (
            _type(value["propertyNames"]) if "enum" in value.get("propertyNames", {}) else "name"
        )
        values = value.get("additionalProperties")
        return f"{names}: {_type(values)}" if isinstance(values, dict) else "any keys"
    words = {"string": "text", "null": "null", "boolean": "true or false", None: "anything"}
    return words.get(kind, kind) + _bounds(value)


def _list(value: dict[str, Any]) -> str:
    of = value.get("items") or next(iter(value.get("prefixItems", ())), {})
    least, most = value.get("minItems"), value.get("maxItems")
    if least is not None and least == most:
        return f"{least} × {_type(of)}"
    return f"list of {_type(of)}" + ("" if least is None else f", at least {least}")


def _bounds(value: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return f" {', '.join(bounds)}" if bounds else ""


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", r"\|")


class Keys(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        self.env.note_dependency(str(SCHEMAS / f"{name}.json"))
        text = "\n".join(pages(name))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Package(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        names = [
            each.name
            for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if not each.name.endswith("__main__")
        ]
        text = "\n\n".join(
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```"
            for name in (package.__name__, *names)
        )
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app) -> dict:
    app.add_directive("keys", Keys)
    app.add_directive("package", Package)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
