"""The commands of ``python -m sar``: their arguments, and what they say."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

from sar.errors import SarError

DESCRIPTION = "Trained models: import those of the released code, and segment images with them."

_CHECKPOINT = (
    "what `import` wrote; or weights.safetensors of a run, with its config.py beside it; or a "
    "checkpoint of mmsegmentation, with --config"
)
_CONFIG = (
    "config file of mmsegmentation 1.x: a path, or one below .mim/configs of the installed package"
)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="semantic-anchors", description=DESCRIPTION)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser(
        "import",
        help="turn a checkpoint into one file that has all a prediction needs",
        description="Turn a checkpoint of mmsegmentation 0.x or 1.x, of a baseline or trained with "
        "semantic anchors, into one safetensors file with the model's config and the names and "
        "colours of the classes. No code stored in the checkpoint is run. Names and shapes that do "
        "not fit the config are listed, and nothing is written.",
    )
    one.add_argument("checkpoint", type=Path, metavar="RELEASED.pth")
    one.add_argument("--config", help=f"{_CONFIG} (not needed where a config.py lies beside)")
    one.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.safetensors")
    one.set_defaults(run=_import)

    two = commands.add_parser(
        "predict",
        help="segment images, and draw what was found over them",
        description="Segment images with a trained model and write DIR/<name>.png: the image in "
        "the colours of its classes, with a legend. Images that cannot be read are named and left "
        "out, and the exit status is 1.",
    )
    two.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders and patterns")
    two.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help=_CHECKPOINT)
    two.add_argument("--config", help=_CONFIG)
    two.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    two.add_argument(
        "--labels", action="store_true", help="write class ids too, as grey DIR/labels/<name>.png"
    )
    two.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:<number> (default: %(default)s)"
    )
    two.add_argument(
        "--opacity",
        type=_fraction,
        default=0.6,
        metavar="0..1",
        help="of the classes' colours (default: %(default)s)",
    )
    two.add_argument(
        "--distinct-colours",
        action="store_true",
        help="colours that colour-blind readers can tell apart, instead of the checkpoint's own",
    )
    two.set_defaults(run=_predict)
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # One of mmcv's compiled ops, which few heads need: building such a head says so itself.
    warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")
    try:
        status: int = args.run(args)
        return status
    except SarError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _import(args: argparse.Namespace) -> int:
    from sar.trained.bundle import write_bundle
    from sar.trained.reading import part_of, read_trained

    if args.output.suffix != ".safetensors":
        raise SarError(f"{args.output}: expected a name that ends in .safetensors")
    bundle = read_trained(args.checkpoint, args.config)
    write_bundle(bundle, args.output)
    kind = "trained with semantic anchors" if bundle.regularizer else "a baseline"
    parts = Counter(part_of(name) for name in (*bundle.weights, *bundle.regularizer))
    print(f"{args.checkpoint}: {kind}, {len(bundle.classes)} classes")
    print("tensors: " + ", ".join(f"{part} {count}" for part, count in parts.items()))
    for note in bundle.notes:
        print(f"note: {note}")
    print(f"wrote {args.output}")
    return 0


def _predict(args: argparse.Namespace) -> int:
    from sar.trained.palette import distinct_colours
    from sar.trained.predict import predict_images
    from sar.trained.reading import read_trained

    bundle = read_trained(args.checkpoint, args.config)
    done, failures = predict_images(
        bundle,
        args.images,
        args.output,
        labels=args.labels,
        device=args.device,
        opacity=args.opacity,
        palette=distinct_colours(len(bundle.classes)) if args.distinct_colours else None,
    )
    print(f"{done} of {done + len(failures)} images into {args.output}")
    for failure in failures:
        print(f"skipped {failure}", file=sys.stderr)
    return 1 if failures else 0


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return value
