"""Addresses in MLflow's pages: of the comparison of a study's runs, and of each run in a table."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
import webbrowser
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from pipelines.study import Run, Study
from pipelines.track.connection import shown_uri, tracking_uri
from pipelines.track.owner import OWNER_KEY, Owner
from pipelines.track.view import RUN_KEY, View

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` listens when it is given no arguments."""

_NOTE_LENGTH = 8000  # of a tag in MLflow


def shared_view(owner: Owner) -> dict[str, Any]:
    """What MLflow's pages show under `comparison_url`, as their button Share would keep it.

    All runs of the owner, where MLflow alone would draw the first ten; sorted by seed, since it
    folds runs under their parent unless they are sorted.
    """
    return {
        "searchFilter": f"tags.`{RUN_KEY}` LIKE '%' AND tags.`{OWNER_KEY}` = '{owner.key}'",
        "orderByKey": "params.`seed`",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
    }


def comparison_url(experiment: str, owner: Owner) -> str:
    """Where `mlflow ui`, or the server, draws the curves of the owner's runs together."""
    uri = shown_uri()
    base = uri.rstrip("/") if _is_server(uri) else LOCAL_UI
    query = {
        "workflowType": "machine_learning",
        "compareRunsMode": "CHART",
        "viewStateShareKey": owner.key,
    }
    return f"{base}/#/experiments/{experiment}/runs?{urlencode(query, quote_via=quote)}"


def run_tables(
    study: Study, experiment: str, views: Mapping[str, View], ids: Mapping[str, str]
) -> list[str]:
    """In Markdown, for each data set and model the mIoU of its runs, each linked to its run.

    Args:
        views: by name, the runs that there are.
        ids: by name, what the store calls them.
    """

    def cell(run: Run | None) -> str:
        if run is None or run.name not in views:
            return "–"
        view = views[run.name]
        text = view.status.lower() if view.score is None else f"{view.score:.2f}"
        text = "trained" if text == "scheduled" else text
        return f"[{text}](#/experiments/{experiment}/runs/{ids[run.name]})"

    methods = study.file.methods
    tables = []
    for dataset in study.datasets:
        for model in study.models:
            runs = {
                (run.seed, run.method): run
                for run in study.runs
                if (run.dataset.name, run.model) == (dataset, model)
            }
            lines = [
                f"### {dataset} / {model}: mIoU on {study.file.evaluation.split}, %\n",
                "| seed | " + " | ".join(method.label for method in methods.values()) + " |",
                "|---:|" + "---:|" * len(methods),
            ]
            for seed in study.file.seeds:
                cells = [cell(runs.get((seed, method))) for method in methods]
                lines.append(f"| {seed} | " + " | ".join(cells) + " |")
            tables.append("\n".join(lines) + "\n")
    return tables


def fitting(texts: list[str]) -> str:
    """Paragraphs as one note, without those from which on MLflow would refuse it as too long."""
    note = ""
    for text in texts:
        longer = f"{note}\n{text}" if note else text
        if len(longer) > _NOTE_LENGTH:
            break
        note = longer
    return note


def open_page(url: str, experiment: str, name: str) -> None:
    """Open a page of the experiment in a browser, or say what has to be started first."""
    # A server has just answered the sync; the local pages are served by a command of their own.
    if not _is_server(tracking_uri()):
        problem = _problem(experiment, name)
        if problem:
            command = "mlflow ui"
            if os.environ.get("MLFLOW_TRACKING_URI"):
                command += f" --backend-store-uri '{shown_uri()}'"
            print(f"{problem}; start it here with: {command}")
            return
    if not (_has_screen() and webbrowser.open(url)):
        print("there is no web browser here to open it with")


def _problem(experiment: str, name: str) -> str | None:
    """Why the experiment is not shown at LOCAL_UI, if it is not."""
    address = f"{LOCAL_UI}/api/2.0/mlflow/experiments/get?experiment_id={experiment}"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            shown = json.load(answer)["experiment"]["name"]
    except urllib.error.HTTPError:
        shown = None
    except OSError:
        return f"nothing answers at {LOCAL_UI}"
    except (ValueError, KeyError, TypeError):
        shown = None
    return None if shown == name else f"what answers at {LOCAL_UI} does not know this study"


def _has_screen() -> bool:
    """Whether a browser would have a place to open; a text browser would show nothing of it."""
    if "BROWSER" in os.environ or sys.platform != "linux":
        return True
    return "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:"))
