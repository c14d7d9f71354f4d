"""The committed JSON schema is the one that the models give."""

import difflib
from pathlib import Path

from pipelines.study.json_schema import schemas

ROOT = Path(__file__).parents[3]


def test_the_committed_schema_is_current():
    for path, text in schemas().items():
        committed = (ROOT / path).read_text(encoding="utf-8")
        diff = difflib.unified_diff(committed.splitlines(), text.splitlines(), "committed", "now")
        assert committed == text, "run make schema:\n" + "\n".join(diff)
