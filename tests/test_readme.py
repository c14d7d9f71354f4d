"""The README shows the published tables, and they follow from the published runs."""

from pathlib import Path

from pipelines import verify


def test_readme_and_reports_agree(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    verify.verify()
