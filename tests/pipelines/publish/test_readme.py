"""The README shows the published tables, and they follow from the published runs."""

from pathlib import Path

from pipelines.publish import verify


def test_readme_and_reports_agree(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    verify.verify()
