"""The images that a report shows: the best, the median and the worst ones by rule, not by hand.

Images are ranked by their own mean IoU, averaged over the compared methods' runs of one seed. What
is shown of them is kept in `gallery.npz` beside the report, so that it can be drawn again where the
predictions and the data are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.base.artifacts import sha256_file
from pipelines.base.errors import PipelineError
from pipelines.base.reading import npz_names, parse_json, read_npz, reading
from pipelines.evaluate import kept
from pipelines.study import Run
from sar.large_images import allow_large_images

LARGEST = 320
"""Pixels along the longer side of an image in the gallery, at most."""

_REMEDY = "delete it, and make the report again"

_GREY = 128
"""In the place of an image that the data card withholds."""

PARTS = ("best", "median", "worst")

Panel = tuple[str, str]
"""A data set and a model."""


@dataclass(frozen=True)
class Scene:
    """One image of the gallery with the predictions of the methods that have one."""

    stem: str
    part: str
    """One of `PARTS`."""
    image: np.ndarray
    """(H, W, 3) uint8; an even grey where the data card withholds the images."""
    truth: np.ndarray
    """(H, W) class ids, or the ignore index."""
    predictions: Mapping[str, np.ndarray]
    """(H, W) class ids by method."""
    scores: Mapping[str, float]
    """The image's mean IoU in percent by method, measured before it was made smaller."""


@dataclass(frozen=True)
class ShownScenes:
    """The scenes of one data set and model."""

    scenes: Sequence[Scene]
    seed: int | None
    """Of the runs that predicted them; None where there are none."""
    ranked: int
    """How many images they were chosen from."""
    images: int
    """How many the split has."""
    sources: Mapping[str, str]
    """sha256 of the analysis of each run that predicted, by the run's name."""


Gallery = Mapping[Panel, ShownScenes]
_NOTHING = ShownScenes([], None, 0, 0, {})


def runs_to_show(runs: Sequence[Run], methods: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Of these runs of one data set and model, those of the seed that is looked at.

    It is the seed with predictions of the most methods; the first such seed, and where no
    predictions are left the first seed with the most runs.

    Args:
        methods: those that are compared.
        seeds: in the order of the study.
    """
    by_seed = [[r for r in runs if r.seed == seed and r.method in methods] for seed in seeds]
    return max(
        by_seed, key=lambda runs: (sum(bool(predicted_images(run)) for run in runs), len(runs))
    )


def predicted_images(run: Run) -> list[str]:
    """Names of the images whose predictions `run` kept; none where its file is gone."""
    path = run.output("evaluate", "predictions.npz")
    if not path.is_file():
        return []
    return npz_names(path, run.again("evaluate"))


def choose(scores: np.ndarray, wanted: int) -> list[tuple[int, str]]:
    """Which images to show, and as what, from the best to the worst.

    As many best as median ones, and the most worst ones: of four, one, one and two. Equal scores
    rank in the order of the split.

    Args:
        scores: (N,) of the images; NaN for those that cannot be ranked.

    Returns:
        (index, one of `PARTS`).
    """
    ranking = np.argsort(-scores, kind="stable")[: np.isfinite(scores).sum()].tolist()
    wanted = min(wanted, len(ranking))
    best, median = wanted // 3 + (wanted % 3 == 2), wanted // 3
    worst = wanted - best - median
    middle = (len(ranking) - median + 1) // 2
    # In a short ranking the middle may reach into the ends.
    middle = min(max(middle, best), len(ranking) - worst - median)
    places = {
        "best": range(best),
        "median": range(middle, middle + median),
        "worst": range(len(ranking) - worst, len(ranking)),
    }
    return [(ranking[place], part) for part in PARTS for place in places[part]]


def collect(runs: Mapping[Panel, Sequence[Run]], wanted: int, earlier: Sequence[Path]) -> Gallery:
    """Choose the images of every data set and model, and take what is shown of them.

    Args:
        runs: of `runs_to_show`.
        wanted: how many images to show of each.
        earlier: a gallery.npz each, for what cannot be had here any more; they need not be there.

    Raises:
        PipelineError: when an image of the split is missing, or a file is damaged.
    """
    gallery = {}
    for panel, chosen in runs.items():
        shown = _panel(chosen, wanted)
        if not shown.scenes and wanted:
            sources = _sources(chosen)
            before = (read(path) for path in earlier if path.is_file())
            of_these = (old[panel] for old in before if panel in old)
            shown = next((old for old in of_these if old.sources == sources), shown)
        withheld = any(run.dataset.card.withheld_images for run in chosen)
        gallery[panel] = _without_images(shown) if withheld else shown
    return gallery


def _without_images(shown: ShownScenes) -> ShownScenes:
    """The same with an even grey in the place of every image."""
    scenes = [
        replace(scene, image=np.full((*scene.truth.shape, 3), _GREY, np.uint8))
        for scene in shown.scenes
    ]
    return replace(shown, scenes=scenes)


def _sources(runs: Sequence[Run]) -> dict[str, str]:
    return {run.name: sha256_file(run.output("evaluate", "analysis.npz")) for run in runs}


def _panel(runs: Sequence[Run], wanted: int) -> ShownScenes:
    """Choose among the images that all of `runs` (of one data set and model) predicted."""
    names = [predicted_images(run) for run in runs]
    runs = [run for run, stems in zip(runs, names, strict=True) if stems]
    if not runs:
        return _NOTHING
    everywhere = set.intersection(*(set(stems) for stems in names if stems))
    analyses = [kept.of(run) for run in runs]
    if any(each.form == "none" for each in analyses):
        return _NOTHING
    stems = analyses[0].stems
    scores = np.stack([each.image_miou() for each in analyses])
    mean = np.where([stem in everywhere for stem in stems], scores.mean(axis=0), np.nan)
    scenes = [
        _scene(runs, stems[index], part, scores[:, index]) for index, part in choose(mean, wanted)
    ]
    return ShownScenes(scenes, runs[0].seed, len(everywhere), len(stems), _sources(runs))


def _scene(runs: Sequence[Run], stem: str, part: str, scores: np.ndarray) -> Scene:
    image, truth = (_pixels(runs[0], kind, stem) for kind in ("images", "labels"))
    predictions = {}
    for run in runs:
        path = run.output("evaluate", "predictions.npz")
        arrays = read_npz(path, run.again("evaluate"), [stem])
        predictions[run.method] = smaller(arrays[stem])
    by_method = {run.method: float(score) for run, score in zip(runs, scores, strict=True)}
    return Scene(stem, part, smaller(image), smaller(truth), predictions, by_method)


def smaller(pixels: np.ndarray) -> np.ndarray:
    """An image, or a map of class ids, with at most `LARGEST` pixels along its longer side."""
    height, width = pixels.shape[:2]
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = Image.Resampling.BOX if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(pixels).resize(size, method))


def _pixels(run: Run, kind: str, stem: str) -> np.ndarray:
    folder = run.dataset.prepared / kind / run.evaluation.split
    paths = [folder / f"{stem}{suffix}" for suffix in (".png", ".jpg")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise PipelineError(f"{paths[0]}: not found; {run.dataset.again('prepare')}")
    allow_large_images()
    with reading(path, "image", run.dataset.again("prepare")), Image.open(path) as picture:
        return np.asarray(picture.convert("RGB") if kind == "images" else picture)


def write(gallery: Gallery, path: Path) -> None:
    """Write the file; equal galleries give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    panels = []
    for (dataset, model), shown in gallery.items():
        scenes = []
        for scene in shown.scenes:
            key = str(len(arrays))
            arrays[f"{key}/image"], arrays[f"{key}/truth"] = scene.image, scene.truth
            for method, prediction in scene.predictions.items():
                arrays[f"{key}/prediction/{method}"] = prediction
            scenes.append(
                {"key": key, "stem": scene.stem, "part": scene.part, "scores": dict(scene.scores)}
            )
        facts = {name: getattr(shown, name) for name in ("seed", "ranked", "images")}
        panels.append(
            {"dataset": dataset, "model": model, "scenes": scenes}
            | {"sources": dict(shown.sources), **facts}
        )
    described = np.array(json.dumps(panels, sort_keys=True))
    np.savez_compressed(path, allow_pickle=False, panels=described, **arrays)


def read(path: Path) -> Gallery:
    """What `write` wrote.

    Raises:
        PipelineError: when the file is missing or not whole.
    """
    arrays = read_npz(path, _REMEDY)
    with reading(path, "gallery", _REMEDY):
        return {
            (panel["dataset"], panel["model"]): ShownScenes(
                [_read_scene(scene, arrays) for scene in panel["scenes"]],
                *(panel[name] for name in ("seed", "ranked", "images", "sources")),
            )
            for panel in parse_json(arrays["panels"].item())
        }


def _read_scene(scene: Mapping, arrays: Mapping[str, np.ndarray]) -> Scene:
    start = f"{scene['key']}/prediction/"
    predictions = {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
    key = scene["key"]
    return Scene(
        *(scene["stem"], scene["part"], arrays[f"{key}/image"], arrays[f"{key}/truth"]),
        *(predictions, scene["scores"]),
    )
