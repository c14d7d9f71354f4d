"""Values as YAML, for the text of a report."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML


def yaml_text(value: Any, *, inline: bool = False) -> str:
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = inline
    yaml.width = 10_000
    yaml.dump(value, stream)
    return stream.getvalue()


def yaml_inline(value: dict[str, Any]) -> str:
    return f"`{yaml_text(value, inline=True).strip()}`"
