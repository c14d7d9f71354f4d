"""How runs are evaluated, as a study says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.study.strict import Factor, Images, Name, SidePixels, Strict


class MultiScale(Strict):
    """A second test of the same weights: class probabilities averaged over views of an image."""

    scales: Annotated[list[Factor], Field(min_length=1, max_length=100)]
    """Factors on the size that the single-scale test has."""
    flip: bool = True
    """Each scale also mirrored, left to right."""


class Evaluation(Strict):
    split: Literal["val", "test"] = "test"
    """What is tested, once a run, with the last checkpoint; `val` for a tuning."""
    batch_size: Images = 1
    """Images of unequal sizes are evaluated one by one, whatever stands here."""
    gallery: Annotated[int, Field(ge=0, le=1000)] = 4
    """Images that the report shows: best, median and worst ones by their own mean IoU."""
    mode: Literal["whole", "slide"] = "whole"
    """An image at once, or windows of `crop_size` every `stride`, whose logits are averaged where
    they overlap."""
    crop_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Height and width of the windows in pixels after all scaling."""
    stride: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Rows and columns in pixels from one window to the next."""
    base_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Bounds in pixels of the files, the larger on the longer side, into which images are fitted,
    larger or smaller, before they are predicted; the study's `image_scale` multiplies them. Without
    it, their own size. Scores are always those of the labels at their own size."""
    subsets: list[Name] = []
    """Subsets of the split, by their names in the data card, of which scores are given as well:
    `mIoU/NAME`."""
    multi_scale: MultiScale | None = None
    """Adds the score `mIoU/multi-scale` to the single-scale ones, for the price of another pass
    over the split for each view."""

    @model_validator(mode="after")
    def _windows_are_complete(self) -> Evaluation:
        given = {"crop_size": self.crop_size, "stride": self.stride}
        for key, value in given.items():
            if (value is None) == (self.mode == "slide"):
                raise ValueError(
                    f"{key} goes with mode slide, and mode slide with both crop_size and stride"
                )
        if self.stride is not None and self.crop_size is not None:
            for step, side in zip(self.stride, self.crop_size, strict=True):
                if step > side:
                    raise ValueError(
                        f"stride {step} is larger than the window's side {side}: pixels between "
                        "windows would have no prediction"
                    )
        return self
