"""The view of a whole study: the run that holds the comparison, and what the study asks."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.base.artifacts import sha256_json
from pipelines.base.metric_names import class_of
from pipelines.base.reading import read_text
from pipelines.study import Study
from pipelines.track.view import STUDY_KEY, Point, View, finished, key


def study_view(study: Study) -> View:
    """The view of the comparison; it has the numbers and figures as soon as they are there."""
    file = study.file
    facts = {
        "kind": file.kind,
        "datasets": ", ".join(file.datasets),
        "models": ", ".join(file.models),
        "methods": ", ".join(file.methods),
        "baseline": file.baseline,
        "seeds": ", ".join(str(seed) for seed in file.seeds),
        "iterations": ", ".join(map(str, sorted(study.iterations))),
    }
    stages = {
        name: stage
        for name in ("compare", "report")
        if (stage := finished(study, name)) is not None
    }
    compare, report = stages.get("compare"), stages.get("report")
    parts = {name: stage.fingerprint for name, stage in stages.items()}
    ends = [stage.ended for stage in stages.values() if stage.ended]
    shown = (
        *("*.md", "*.html", "*.csv", "table.tex", "receipt.json", "runtime.json"),
        *("*.png", "figures/*", "tables/*"),
    )
    folder = study.folder("report")
    found = {path for glob in shown for path in folder.glob(glob)}
    shown_in = {
        path: "/".join(("report", *path.relative_to(folder).parts[:-1])) for path in sorted(found)
    }
    return View(
        key=(STUDY_KEY, study.name),
        title=f"{study.name}: comparison",
        parts={"study": sha256_json(facts)} | parts,
        params=facts,
        points=list(_comparison(study)) if compare else [],
        tags={"study": study.name},
        inputs=[],
        files=[(path.as_posix(), place) for path, place in shown_in.items()] if report else [],
        texts={},
        started=compare.started if compare else None,
        ended=max(ends, default=None),
        status="FINISHED" if compare else "SCHEDULED",
    )


def question(study: Study) -> str:
    """What the study asks, in Markdown."""
    return f"## {study.file.title}\n\n{study.file.description.strip()}\n"


def result(study: Study) -> str:
    """The result table of the study's report, in Markdown; nothing where it is not made yet."""
    if finished(study, "report") is None:
        return ""
    return read_text(study.output("report", "table.md"))


def _comparison(study: Study) -> Iterator[Point]:
    """Means and paired differences; the scores of single classes stay in the report's table."""
    from pipelines.base.frames import KEYS, read_csv  # pandas, which a training does without

    columns = {
        "summary": ("mean", "std", "n"),
        "paired": ("mean_difference", "std_difference", "n"),
    }
    for table, wanted in columns.items():
        rows = read_csv(study.output("compare", f"{table}.csv"), needs=(*KEYS, "metric", *wanted))
        for row in rows.to_dict("records"):
            if class_of(row["metric"]) is not None:
                continue
            where = "/".join(row[name] for name in (*KEYS, "metric"))
            for column in wanted:
                if row[column] == row[column]:
                    name = key(f"{table}/{where}/{column}")
                    yield Point(name, float(row[column]), 0, 0.0)
