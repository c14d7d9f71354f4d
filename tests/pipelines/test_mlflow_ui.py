"""What a person sees who types `mlflow ui` in the project root, in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import track
from tests.pipelines.test_track import (
    client,
    finished,
    mlflow_server,
    project_environment,
)

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Tall, since charts below the window's edge are not drawn.
    "--window-size=1500,3000",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt install chromium)"),
]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


def browse(address: str, profile: str, *words: str, until: Callable[[str], bool]) -> str:
    """What chromium prints for a page, with a new profile, given more time until it is whole."""
    for seconds in (20, 60, 180):
        folder = Path(f"{profile}-{seconds}").resolve()
        time = f"--virtual-time-budget={1000 * seconds}"
        command = [CHROMIUM, *FLAGS, time, f"--user-data-dir={folder}", *words, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        if until(done.stdout):
            break
    return done.stdout


def test_mlflow_ui_shows_the_study(tmp_path, monkeypatch):
    study = finished([0, 1])
    # The command, as a person types it, with the default store: relative to the project root.
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.track", "--study", "mini"],
        env=project_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    link = done.stdout.split()[-1]
    with mlflow_server("ui") as address:
        assert link.startswith(track.store.LOCAL_UI)
        link = link.replace(track.store.LOCAL_UI, address)
        shown = [run.name for run in study.runs]
        shown += [f">{section}" for section in ("train", "test", "test/mIoU", "cost")]
        page = browse(link, "runs", "--dump-dom", until=lambda page: all(t in page for t in shown))
        assert [text for text in shown if text not in page] == []

        shown = ["mini: comparison", study.file.title]
        table = link.partition("?")[0]
        page = browse(
            table, "table", "--dump-dom", until=lambda page: all(t in page for t in shown)
        )
        assert [text for text in shown if text not in page] == []

        # Only a page that is painted draws its charts; these are its questions for their points.
        def drawn(_: str) -> bool:
            return "get-history" in Path("server.log").read_text()

        browse(link, "charts", "--screenshot=comparison.png", until=drawn)
        assert drawn("")
        assert Path("comparison.png").stat().st_size > 20_000

        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        experiment = client().get_experiment_by_name("mini").experiment_id
        (parent,) = client().search_runs([experiment], "tags.`sar.comparison` = 'mini'")
        figure = f"get-artifact?path=report/per_class.png&run_uuid={parent.info.run_id}"
        with urllib.request.urlopen(f"{address}/{figure}") as answer:
            assert answer.read() == Path("picture.png").read_bytes()
