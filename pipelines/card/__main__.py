"""Write the data card of images and labels in folders: `python -m pipelines.card IMAGES MASKS`.

MASKS is a folder of masks (grey, indexed or coloured pictures, `.npy`, `.mat`), of LabelMe files,
of a folder a class, or a COCO file; without it, labels lie below IMAGES too, as in CamVid, VOC or
Cityscapes. What is found and what is guessed stands in the card's comments; a contact sheet shows
it. Nothing is asked.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.base.durable import written_whole
from pipelines.base.errors import PipelineError, disk_errors
from pipelines.card.folders import Folders, lay_out
from pipelines.card.kinds import KINDS, Kind
from pipelines.card.pairing import LISTS
from pipelines.card.survey import Survey, survey
from pipelines.card.text import card_text
from pipelines.running.cli import guarded
from pipelines.study import PARAMS, WORK, params_file
from pipelines.study.cards import DataCard
from pipelines.study.parameters import read_params

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SHEETS = WORK / "cards"


def write_card(
    images: Path,
    labels: Path,
    name: str,
    *,
    kind: Kind | None = None,
    force: bool = False,
    jobs: int | None = None,
) -> tuple[Path, Path]:
    """Write the card, the lists of its splits where it needs some, and the contact sheet.

    Returns:
        The paths of card and sheet.

    Raises:
        PipelineError: naming what cannot be used and what was expected, before anything is written.
    """
    if not _NAME.fullmatch(name) or name == "dvc":
        raise PipelineError(
            f"--name {name}: expected lower-case letters, digits, _ and -, 64 at most, such as "
            "my_photos"
        )
    path = params_file("datasets", name)
    if path.exists() and not force:
        raise PipelineError(f"{path}: is there already; expected another --name, or --force")
    WORK.mkdir(parents=True, exist_ok=True)
    with disk_errors(WORK), tempfile.TemporaryDirectory(prefix="card.", dir=WORK) as scratch:
        files = Path(scratch).resolve()
        folders = lay_out(images, labels, files)
        with _in_the_users_words(files, folders):
            found = survey(files, folders, kind, jobs)
        text = card_text(found, name, name.replace("_", " ").replace("-", " "))
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as new:
            new.write_text(text, encoding="utf-8")
            card = read_params(new, DataCard)
            _keep_lists(files / LISTS, PARAMS / "datasets" / "splits" / name)
        return path, _sheet(found, card, files, name)


@contextlib.contextmanager
def _in_the_users_words(files: Path, folders: Folders) -> Iterator[None]:
    """Errors name files below `files`; say which folders of the user's these are."""
    try:
        yield
    except PipelineError as error:
        said = str(error).replace(f"{files}/", "")
        places = {each.get("below", each.get("file")): each for each in folders.parts.values()}
        told = [
            f"{place} is {each['path']}"
            for place, each in places.items()
            if f"{place}/" in said or each["kind"] == "archive"
        ]
        raise PipelineError(f"{said}\n  ({', '.join(told)})" if told else said) from error


def _keep_lists(lists: Path, folder: Path) -> None:
    if not lists.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        old.unlink()
    for path in sorted(lists.iterdir()):
        shutil.copyfile(path, folder / path.name)


def _sheet(found: Survey, card: DataCard, files: Path, name: str) -> Path:
    # Not needed by who only asks for help, and slow to import.
    from pipelines.card import sheet
    from pipelines.rendering import style

    looks = [(split, look) for split, own in found.members.items() for look in own]
    pixels = np.stack([found.meaning.pixels(look) for _, look in looks])
    SHEETS.mkdir(parents=True, exist_ok=True)
    path = SHEETS / f"{name}.png"
    with style.drawing():
        figure = sheet.draw(card, files, looks, pixels)
        with written_whole(path) as new:
            figure.savefig(new, format="png", dpi=110, metadata={"Software": None})
    return path


def _named_after(images: Path, labels: Path) -> str:
    """A name from the folder that holds both, or else that of the images."""
    one, other = images.resolve(), labels.resolve()
    folder = one if one == other or one.parent != other.parent else one.parent
    letters = unicodedata.normalize("NFKD", folder.name.lower())
    letters = "".join(each for each in letters if not unicodedata.combining(each))
    plain = re.sub(r"[^a-z0-9_-]+", "_", letters).strip("_-")
    return plain[:64] or "mine"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.card",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photographs")
    parser.add_argument(
        "masks", type=Path, metavar="MASKS", nargs="?", help="of labels (default: IMAGES)"
    )
    parser.add_argument("--name", help="of the data set (default: after the folder)")
    parser.add_argument("--layout", choices=KINDS, help="kind of labels (default: what is there)")
    parser.add_argument("--force", action="store_true", help="replace a card of that name")
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes that read (default: all CPUs)"
    )
    args = parser.parse_args(argv)

    def command() -> None:
        if args.jobs is not None and args.jobs < 1:
            raise PipelineError(f"--jobs {args.jobs}: expected 1 or more")
        labels = args.masks or args.images
        name = args.name or _named_after(args.images, labels)
        card, sheet = write_card(
            args.images, labels, name, kind=args.layout, force=args.force, jobs=args.jobs
        )
        print(f"wrote {card}: look at its comments, and at {sheet}")
        print(f"next: python -m pipelines.fetch --dataset {name}")
        print(f"      python -m pipelines.prepare --dataset {name}")

    return guarded(command)


if __name__ == "__main__":
    sys.exit(main())
