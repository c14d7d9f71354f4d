"""An empty project whose data card a test writes, and a server for what the card names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.fetch import download
from pipelines.fetch.stage import fetch
from pipelines.study import Dataset
from tests.pipelines.fetch.web import Server

ROOT = Path(__file__).parents[3]
NAME = "made_up"


class Project:
    """The data set `made_up` in the working directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.downloads = root / "data/downloads" / NAME
        self.files = root / "data/raw" / NAME / "files"
        self.receipt = root / "data/raw" / NAME / "receipt.json"

    def card(self, **parts: dict) -> None:
        """Write a data card with these parts."""
        card = {
            "title": "Made up",
            "classes": ["ground", "thing"],
            "palette": [[0, 0, 0], [255, 0, 0]],
            "source": {
                "kind": "files",
                "parts": parts,
                "splits": {"train": {"images": "images", "labels": "labels"}},
            },
            "licence": "none",
            "citation": "none",
        }
        path = self.root / f"params/datasets/{NAME}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(card))

    def fetch(self, *, allow_commands: bool = True) -> dict[str, bytes]:
        """Fetch, and what there is then."""
        fetch(Dataset.load(NAME), allow_commands=allow_commands)
        return self.fetched()

    def fetched(self) -> dict[str, bytes]:
        paths = (path for path in self.files.rglob("*") if path.is_file())
        return {path.relative_to(self.files).as_posix(): path.read_bytes() for path in paths}

    def start(self, setup: str = "", stderr: int = subprocess.PIPE) -> subprocess.Popen:
        """The command of the stage in a process of its own, after the Python lines `setup`."""
        code = (
            f"{setup}\nimport sys\nfrom pipelines.fetch import __main__\nsys.exit(__main__.main())"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, "--dataset", NAME, "--allow-commands"],
            cwd=self.root,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in (*proxies, *map(str.lower, proxies), "SAR_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setattr(download, "LONGEST_PAUSE_SECONDS", 0.01)
    return Project(root)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()
