"""Write a model card beside the weights of a run: `MODEL_CARD.md` in its train folder.

What a person has to know who is given the weights alone: what they tell apart and how well, what
they were trained on and under whose licence, and what made them. All of it is read from the files
of the run, which have to be whole and those of its present parameters; nothing is measured anew.
The card is a view for people: no stage reads it, and no receipt vouches for it. It names the sha256
of the weights that it is about, since a training that is made again leaves it behind.

    python -m pipelines.model_card --study default --run digits/fcn_hrnet_tiny/sar/seed0
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.base.artifacts import write_whole
from pipelines.base.measuring import UNKNOWN
from pipelines.base.receipts import read_receipt
from pipelines.rendering import tables
from pipelines.rendering.inert import inert
from pipelines.rendering.yaml import yaml_text
from pipelines.running import custody
from pipelines.running.cli import chosen_runs, guarded, stage_parser
from pipelines.running.custody import Made
from pipelines.study import Run, made

NAME = "MODEL_CARD.md"

NOT_TOLD = "not told"


def model_card(run: Run) -> str:
    """The card of a trained and evaluated run, in Markdown.

    Raises:
        PipelineError: when the run is not trained or not evaluated with its present parameters, or
            a file of these is not as its receipt says.
    """
    custody.require(Made("train", run), [run.output("train", "weights.safetensors")])
    custody.require(Made("evaluate", run), [run.output("evaluate", "metrics.json")])
    title = f"{run.entry.title} for {run.dataset.card.title}: {run.spec.label}, seed {run.seed}"
    sections = {
        "Use": _use(run),
        "Classes and scores": _scores(run),
        "Data": _data(run),
        "Training": _training(run),
        "Licence": _licence(run),
        "Provenance": _provenance(run),
    }
    blocks = [inert(f"# {title}"), inert(_lead(run))]
    for heading, text in sections.items():
        blocks += [f"## {heading}", text.strip()]
    return "\n\n".join(blocks) + "\n"


def write_card(run: Run) -> Path:
    """Write the card of `run` into the folder of its weights, whole or not at all."""
    path = run.folder("train") / NAME
    write_whole(path, model_card(run))
    return path


def _lead(run: Run) -> str:
    return (
        f"One run of the study `{run.study.name}`, `{run.name}`: {run.training.iterations:,} "
        f"iterations on {run.dataset.card.title}, then tested once. It is one training of one "
        "seed: the study's report says how much of a score is the seed's, and compares methods."
    )


def _use(run: Run) -> str:
    folder = run.folder("train").as_posix()
    return f"""```python
import sar

model = sar.load("{folder}")
ids = model.predict(image)  # of an RGB PIL image: (H, W), indices into model.classes
```

The folder holds the weights (`weights.safetensors`, those that predict: what a method needs in
training alone is not among them) and `config.py`, from which normalisation and size of images are
read. `semantic-anchors export --checkpoint {folder} --format onnx -o model.onnx` writes a graph
for other programs. It was tested on the data below and on no other: on other cameras, places or
classes it may be wrong without a sign of it."""


def _scores(run: Run) -> str:
    found = made.metrics(run)
    groups = {
        f"mIoU, {name} classes": group["mIoU"]
        for name, group in found["groups"].items()
        if group["classes"]
    }
    whole = {name: found[name] for name in ("mIoU", "mAcc", "aAcc")} | groups
    shown = pd.DataFrame([{name: _percent(value) for name, value in whole.items()}])
    classes = pd.DataFrame(
        [
            {
                "class": name,
                "IoU": _percent(found["IoU"][name]),
                "Acc": _percent(found["Acc"][name]),
            }
            for name in run.dataset.card.classes
        ]
    )
    return "\n\n".join(
        [
            f"On the {found['split']} split, {found['num_images']:,} images, in percent, void "
            "pixels left out:",
            inert(tables.markdown(shown)).strip(),
            inert(tables.markdown(classes)).strip(),
        ]
    )


def _data(run: Run) -> str:
    card, info = run.dataset.card, made.info(run.dataset)
    counts = ", ".join(f"{info['counts'][split]:,} {split}" for split in card.splits)
    lines = [
        f"- {card.title}: {counts} images",
        f"- Licence: {_line(card.licence)}",
        f"- To cite: {_line(card.citation)}",
        *([f"- Homepage: <{card.homepage}>"] if card.homepage else []),
        *(
            [f"- Images are not shown: {_line(card.withheld_images)}"]
            if card.withheld_images
            else []
        ),
    ]
    # An address in angle brackets is a link, which text of a card may not hold.
    return "\n".join(line if line.startswith("- Homepage") else inert(line) for line in lines)


def _training(run: Run) -> str:
    recipe = {
        "method": {"plugin": run.spec.plugin, "options": dict(run.spec.options)},
        "model": run.entry.config,
        **run.training.model_dump(mode="json", exclude_defaults=True),
    }
    begun = "random weights"
    if run.entry.pretrained is not None:
        begun = f"published weights, `{run.entry.pretrained.file}`"
    return (
        f"The backbone began with {begun}. What differs from the defaults of a recipe:\n\n"
        f"```yaml\n{yaml_text(recipe).rstrip()}\n```"
    )


def _licence(run: Run) -> str:
    parts = [
        "- Code: Apache License 2.0.",
        f"- Training data: {_line(run.dataset.card.licence)}.",
    ]
    if run.entry.pretrained is not None:
        licence = run.entry.pretrained.licence or NOT_TOLD
        parts.append(f"- Weights that the backbone began with: {_line(licence)}.")
    return inert(
        "These weights have no licence of their own: whoever passes them on has to see what those "
        "of their parts allow.\n\n" + "\n".join(parts)
    )


def _provenance(run: Run) -> str:
    rows: dict[str, Any] = {}
    for stage in ("train", "evaluate"):
        facts = made.runtime(run, stage)
        receipt = read_receipt(run.output(stage, "receipt.json"), run.again(stage))
        rows[f"{stage}: commit"] = _commit(facts)
        rows[f"{stage}: parameters"] = receipt.parameters
        rows |= {f"{stage}: sha256 of {name}": d for name, d in sorted(receipt.inputs.items())}
        if stage == "train":
            rows["sha256 of weights.safetensors"] = receipt.outputs["weights.safetensors"]
            rows["sha256 of config.py"] = receipt.outputs["config.py"]
            rows["trained on"] = facts.get("device") or NOT_TOLD
            rows["trained in"] = _seconds(facts.get("wall_seconds"))
            rows["energy"] = _energy(facts)
            versions = facts.get("versions") or {}
            rows["versions"] = ", ".join(f"{n} {v}" for n, v in versions.items()) or NOT_TOLD
    shown = pd.DataFrame({"what": list(rows), "": [str(value) for value in rows.values()]})
    return inert(tables.markdown(shown))


def _commit(facts: Mapping[str, Any]) -> str:
    commit = facts.get("commit") or UNKNOWN
    return f"{commit}, with files that differed from it" if facts.get("dirty") else commit


def _seconds(value: Any) -> str:
    return f"{value:,.0f} s" if isinstance(value, int | float) else NOT_TOLD


def _energy(facts: Mapping[str, Any]) -> str:
    told = {part: facts.get(f"{part.lower()}_energy_joules") for part in ("CPU", "GPU")}
    known = {part: value for part, value in told.items() if isinstance(value, int | float)}
    return ", ".join(f"{part} {value / 3600:,.1f} Wh" for part, value in known.items()) or NOT_TOLD


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def main(argv: list[str] | None = None) -> int:
    parser = stage_parser("model_card", __doc__, runs=True, verify=True)
    args = parser.parse_args(argv)

    def command() -> None:
        for run in chosen_runs(args):
            print(f"wrote {write_card(run)}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
