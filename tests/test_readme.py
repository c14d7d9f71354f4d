"""README.md and docs/ show the published tables, and they follow from the published runs."""

import re
from pathlib import Path

from pipelines import verify

ROOT = Path(__file__).parents[1]


def test_readme_and_reports_agree(monkeypatch):
    monkeypatch.chdir(ROOT)
    verify.verify()


def test_every_study_whose_results_are_told_has_its_table_there():
    """A marker that is lost would be compared with nothing."""
    shown = {
        page: set(re.findall(r"^<!-- table:(\S+) -->$", (ROOT / page).read_text("utf-8"), re.M))
        for page in ("README.md", "docs/results.md")
    }
    assert shown == {"README.md": {"default"}, "docs/results.md": {"default", "digits", "camvid"}}
