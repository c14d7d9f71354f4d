"""From the study's note to its runs, and from the command line to the browser."""

from __future__ import annotations

import http.server
import json
import re
import threading
from pathlib import Path

import pytest

from pipelines.track import links
from pipelines.track.__main__ import main as track_main
from pipelines.track.sync import sync
from tests.pipelines.track.glyphs import fabricate, fake_run, fake_training, finished
from tests.pipelines.track.servers import free_port
from tests.pipelines.track.stores import records

pytestmark = pytest.mark.usefixtures("empty_store")


def note() -> str:
    return records()["mini: comparison"].data.tags["mlflow.note.content"]


def test_the_note_of_the_study_leads_to_each_run():
    study = fabricate([0, 3])
    fake_run(study.run("glyphs/tiny/baseline/seed3"))
    fake_training(study.run("glyphs/tiny/sar/seed3"))
    sync(study)
    found = records()
    experiment = found["mini: comparison"].info.experiment_id

    def link(text: str, name: str) -> str:
        return f"[{text}](#/experiments/{experiment}/runs/{found[name].info.run_id})"

    assert "Whether the view says" in note()
    rows = [line for line in note().splitlines() if line.startswith("|")]
    assert rows == [
        "| seed | Baseline | SAR |",
        "|---:|---:|---:|",
        "| 0 | – | – |",
        f"| 3 | {link('53.00', 'glyphs/tiny/baseline/seed3')} "
        f"| {link('trained', 'glyphs/tiny/sar/seed3')} |",
    ]
    finished([0, 3])
    sync(study)
    assert "| SAR | 51.0 |" in note()
    assert len(re.findall(r"\[5[03]\.00\]\(#/", note())) == 4


def test_a_note_that_would_be_too_long_ends_with_the_last_table_that_fits():
    assert links.fitting(["a" * 4000, "b" * 3000, "c" * 2000, "d"]) == f"{'a' * 4000}\n{'b' * 3000}"


@pytest.fixture
def local_ui(monkeypatch):
    """A stand-in for `mlflow ui`: a function sets the name of the experiment that it knows."""
    port = free_port()
    monkeypatch.setattr(links, "LOCAL_UI", f"http://127.0.0.1:{port}")
    servers = []

    def answer_with(name: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"experiment": {"name": name}}).encode())

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()

    yield answer_with
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def browser(project, monkeypatch) -> Path:
    """What a browser was asked to open, in a file."""
    program = project / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> {project}/opened\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    return project / "opened"


def opened(capsys) -> list[str]:
    assert track_main(["--study", "mini", "--open"]) == 0
    return capsys.readouterr().out.splitlines()


def test_open_says_what_to_start_when_nothing_answers(local_ui, browser, capsys):
    fabricate([0])
    (first, second) = opened(capsys)
    assert first.split()[-1].startswith(f"{links.LOCAL_UI}/#/experiments/")
    assert second == f"nothing answers at {links.LOCAL_UI}; start it here with: mlflow ui"
    assert not browser.exists()


def test_open_does_not_open_the_pages_of_something_else(local_ui, browser, capsys):
    fabricate([0])
    local_ui("another")
    assert "does not know this study" in opened(capsys)[1]
    assert not browser.exists()


def test_open_opens_the_comparison(local_ui, browser, capsys):
    fabricate([0])
    local_ui("mini")
    (line,) = opened(capsys)
    assert browser.read_text().strip() == line.split()[-1]


def test_open_without_a_browser_leaves_the_link(local_ui, monkeypatch, capsys):
    fabricate([0])
    local_ui("mini")
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert opened(capsys)[1] == "there is no web browser here to open it with"
