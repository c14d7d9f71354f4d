"""The README shows the published tables, and they are as they were made."""

from pathlib import Path

from pipelines import publish


def test_readme_and_reports_agree(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    publish.check()
