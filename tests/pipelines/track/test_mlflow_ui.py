"""What a person sees who types `mlflow ui` in the project root, in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.track.links import LOCAL_UI
from tests.pipelines.track.glyphs import finished
from tests.pipelines.track.servers import command, mlflow_server, project_environment
from tests.pipelines.track.stores import records

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


def browse(address: str, profile: str, *words: str, until: Callable[[str], bool]) -> str:
    """What chromium prints for a page, with a new profile, given more time until it is whole."""
    for seconds in (20, 60, 180):
        folder = Path(f"{profile}-{seconds}").resolve()
        time = f"--virtual-time-budget={1000 * seconds}"
        words_ = [CHROMIUM, *FLAGS, time, f"--user-data-dir={folder}", *words, address]
        done = subprocess.run(words_, capture_output=True, text=True, timeout=600, check=True)
        if until(done.stdout):
            break
    return done.stdout


def page_with(texts: list[str], address: str, profile: str) -> str:
    """The page at `address`, on which all of these texts are."""
    page = browse(
        address, profile, "--dump-dom", until=lambda page: all(text in page for text in texts)
    )
    assert [text for text in texts if text not in page] == []
    return page


def test_mlflow_ui_shows_the_study():
    # More runs than the ten that MLflow draws at first.
    study = finished([0, 1, 2, 3, 4, 5])
    # The command, as a person types it, with the default store: relative to the project root.
    done = subprocess.run(
        command("--study", "mini"), env=project_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    link = done.stdout.split()[-1]
    parent = records()["mini: comparison"].info
    run = records()["glyphs/tiny/sar/seed1"].info
    with mlflow_server("ui") as server:
        assert link.startswith(LOCAL_UI)
        link = link.replace(LOCAL_UI, server.address)
        runs = [f"{run.method}/seed{run.seed}" for run in study.runs]
        sections = [f">{name}" for name in ("train", "val", "test", "test/mIoU", "workload")]
        page_with(runs + sections, link, "charts")
        table = link.partition("?")[0]
        page_with(["mini: comparison", study.file.title], table, "table")

        # From a cell of the note's table to its run.
        page = page_with([">51.00</a>"], f"{table}/{parent.run_id}", "note")
        (cell,) = set(re.findall(rf'href="([^"]*{run.run_id})"[^>]*>51.00</a>', page))
        page_with(["sar/seed1", "Finished"], f"{server.address}/{cell}", "run")
        model = f"{server.address}/#/models/mini.glyphs.tiny"
        page_with(["whatever its score", "sar", "baseline"], model, "model")

        # Only a page that is painted draws its charts; these are its questions for their points.
        ids = {record.info.run_id for name, record in records().items() if "seed" in name}
        assert len(ids) == 12

        def drawn(_: str) -> bool:
            lines = server.log.read_text().splitlines()
            asked = "".join(line for line in lines if "get-history" in line)
            return all(id in asked for id in ids)

        browse(link, "painted", "--screenshot=comparison.png", until=drawn)
        assert drawn("")
        assert Path("comparison.png").stat().st_size > 20_000

        figure = f"get-artifact?path=report/per_class.png&run_uuid={parent.run_id}"
        with urllib.request.urlopen(f"{server.address}/{figure}") as answer:
            assert answer.read() == Path("picture.png").read_bytes()
