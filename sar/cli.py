"""The commands of ``python -m sar``: their arguments, and what they say."""

from __future__ import annotations

import argparse
import io
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

from sar.errors import SarError

DESCRIPTION = (
    "Trained models: import those of the released code, segment images, export, and measure them."
)

_CHECKPOINT = (
    "what `import` wrote; or a run's folder .../train, or weights.safetensors in it, with its "
    "config.py beside it; or a checkpoint of mmsegmentation, with --config"
)
_DEVICE = "auto, cpu, cuda or cuda:<number> (default: %(default)s)"
_FORMATS = ("onnx", "torchscript", "torch.export")
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
    _add_trust(one)
    one.set_defaults(run=_import)

    two = commands.add_parser(
        "predict",
        help="segment images, and draw what was found over them",
        description="Segment images with a trained model and write DIR/<name>.png: the image in "
        "the colours of its classes, with a legend. Images that cannot be read are named and left "
        "out, and the exit status is 1.",
    )
    two.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders and patterns")
    _add_checkpoint(two)
    two.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    two.add_argument(
        "--labels", action="store_true", help="write class ids too, as grey DIR/labels/<name>.png"
    )
    two.add_argument("--device", default="auto", help=_DEVICE)
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
    two.add_argument(
        "--max-pixels",
        type=_count,
        metavar="N",
        help="leave out images of more (default: 178956970, where Pillow stops)",
    )
    two.set_defaults(run=_predict)

    three = commands.add_parser(
        "export",
        help="write a trained model as a file that other programs run",
        description="Write a trained model, its normalisation inside, as a graph that takes RGB "
        "images (N, 3, H, W) of 0..255 and gives scores (N, K, H, W). The file is read back and "
        "has to give the model's scores, within 1e-4 of the largest, and its classes, before it "
        "gets its name. Classes and normalisation stand in its metadata.",
    )
    _add_checkpoint(three)
    three.add_argument("--format", required=True, choices=_FORMATS)
    three.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    three.add_argument(
        "--size",
        type=_size,
        metavar="HEIGHTxWIDTH",
        help="of all images, for models whose graph depends on it (default: any)",
    )
    three.add_argument(
        "--whole",
        action="store_true",
        help="of a model that joins sliding windows, export what it sees of one of them",
    )
    three.set_defaults(run=_export)

    four = commands.add_parser(
        "benchmark",
        help="measure time, operations and memory of a trained model",
        description="Measure forward passes over random images: latency, throughput, operations "
        "(FLOPs, a multiplication and an addition as two), parameters and peak memory.",
    )
    _add_checkpoint(four)
    four.add_argument("--size", type=_size, default=(512, 512), metavar="HEIGHTxWIDTH")
    four.add_argument("--batch", type=_count, default=1, metavar="N", help="images of a pass")
    four.add_argument("--passes", type=_count, default=20, metavar="N", help="measured")
    four.add_argument("--warm-up", type=_count, default=3, metavar="N", help="passes before those")
    four.add_argument("--threads", type=_count, metavar="N", help="of the CPU (default: torch's)")
    four.add_argument("--device", default="auto", help=_DEVICE)
    four.add_argument("--json", action="store_true", help="print JSON instead of a table")
    four.set_defaults(run=_benchmark)
    return top


def _add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust-code",
        action="store_true",
        help="run the Python code that came with the model, where it is made of its author's own "
        "classes; it can do all that you can",
    )


def _add_checkpoint(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help=_CHECKPOINT)
    command.add_argument("--config", help=_CONFIG)
    _add_trust(command)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of classes and files may hold what the terminal cannot show.
        sys.stdout.reconfigure(errors="replace")
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
    bundle = read_trained(args.checkpoint, args.config, trust_code=args.trust_code)
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
    from sar.large_images import MAX_PIXELS
    from sar.trained.palette import distinct_colours
    from sar.trained.predict import predict_images
    from sar.trained.reading import read_trained

    bundle = read_trained(args.checkpoint, args.config, trust_code=args.trust_code)
    done, failures = predict_images(
        bundle,
        args.images,
        args.output,
        labels=args.labels,
        device=args.device,
        opacity=args.opacity,
        palette=distinct_colours(len(bundle.classes)) if args.distinct_colours else None,
        trust_code=args.trust_code,
        max_pixels=args.max_pixels or MAX_PIXELS,
    )
    print(f"{done} of {done + len(failures)} images into {args.output}")
    for failure in failures:
        print(f"skipped {failure}", file=sys.stderr)
    return 1 if failures else 0


def _export(args: argparse.Namespace) -> int:
    from sar.trained.export import export
    from sar.trained.model import load

    model = load(args.checkpoint, args.config, trust_code=args.trust_code)
    agreements = export(model, args.output, args.format, size=args.size, whole=args.whole)
    worst = max(each.difference for each in agreements)
    largest = max(each.largest for each in agreements)
    pixels, ties = (sum(getattr(each, n) for each in agreements) for n in ("pixels", "ties"))
    print(
        f"{args.output}: scores within {worst:.1e} of the model's (largest {largest:.3g}), the "
        f"same class at {pixels - ties} of {pixels} pixels" + (", the others ties" if ties else "")
    )
    if model.image_steps:
        print("note: images are to be resized first, as image_steps in its metadata say")
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    import torch

    from sar.trained.benchmark import benchmark, table
    from sar.trained.model import load
    from sar.trained.predict import choose_device

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    model = load(args.checkpoint, args.config, device, trust_code=args.trust_code)
    cost = benchmark(
        model, size=args.size, batch=args.batch, passes=args.passes, warm_up=args.warm_up
    )
    print(json.dumps(cost.values(), indent=2) if args.json else table(cost))
    return 0


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HEIGHTxWIDTH, such as 512x1024")
    return int(height), int(width)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 1 or more")
    return int(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return value
