"""Draw `docs/strip.png`: one test image of the default study, its truth and two predictions.

    python docs/strip.py

The image is the median one of the published gallery, so it is neither the best nor the worst.
"""

import json

import numpy as np
from matplotlib.figure import Figure

REPORT = "reports/default"
TITLES = {
    "image": "image",
    "truth": "truth",
    "prediction/baseline": "baseline",
    "prediction/sar": "SAR",
}


def main() -> None:
    with open(f"{REPORT}/data/digits/info.json", encoding="utf-8") as file:
        palette = np.array(json.load(file)["palette"], np.uint8)
    with np.load(f"{REPORT}/gallery.npz", allow_pickle=False) as gallery:
        scenes = json.loads(gallery["panels"].item())[0]["scenes"]
        median = next(scene for scene in scenes if scene["part"] == "median")
        pixels = {title: gallery[f"{median['key']}/{name}"] for name, title in TITLES.items()}
    figure = Figure(figsize=(8, 2.25), layout="constrained")
    for axes, (title, array) in zip(figure.subplots(1, len(pixels)), pixels.items(), strict=True):
        axes.imshow(array if array.ndim == 3 else palette[array], interpolation="none")
        axes.set_axis_off()
        score = median["scores"].get(title.lower())
        axes.set_title(title if score is None else f"{title}: mIoU {score:.1f} %", fontsize=11)
    figure.savefig("docs/strip.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
