"""The recipe of a training, as a study gives it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.study.strict import Images, Iterations, Range, Scales, SidePixels, Strict

Rate = Annotated[float, Field(ge=0, le=1000)]
"""A learning rate, a decay, or a factor on one."""


class Multipliers(Strict):
    """What some parameters' learning rate and weight decay are multiplied by."""

    lr_mult: Rate = 1.0
    """Factor on the learning rate."""
    decay_mult: Rate = 1.0
    """Factor on the weight decay."""


class Optimizer(Strict):
    type: Literal["SGD", "Adam", "AdamW"]
    """Of PyTorch's optimizers."""
    lr: Annotated[float, Field(gt=0, le=1000)]
    """Learning rate after the warm-up, for a step of the whole batch."""
    weight_decay: Rate = 0.0
    """As PyTorch applies it: decoupled in AdamW, an L2 penalty in SGD and Adam."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Of SGD; null takes it back where an override changes the type."""
    betas: (
        Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
        | None
    ) = None
    """Decay rates of the two moments of Adam and AdamW; PyTorch's own are 0.9 and 0.999."""
    custom_keys: dict[str, Multipliers] | None = None
    """Multipliers for the parameters whose name contains the key; of several the longest counts.
    As in mmengine's `paramwise_cfg`, such as no decay for `norm`, or `lr_mult: 10` for `head`."""

    @model_validator(mode="after")
    def _settings_go_with_the_type(self) -> Optimizer:
        if self.momentum is not None and self.type != "SGD":
            raise ValueError(f"momentum goes with type SGD, not {self.type}")
        if self.betas is not None and self.type == "SGD":
            raise ValueError("betas go with type Adam or AdamW, not SGD")
        return self


class Schedule(Strict):
    """Polynomial decay of the learning rate to `min_lr`, after a linear warm-up."""

    power: Annotated[float, Field(gt=0, le=1000)] = 0.9
    """Exponent of the decay: 1 is linear."""
    min_lr: Rate = 1e-4
    """Where the decay ends, at the last iteration."""
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    """Over how many iterations the learning rate rises; none for 0."""
    warmup_start_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the learning rate that the first step has, such as 1e-6 in the configs of SegFormer
    and Swin; without it, one part of `warmup_iterations`."""

    @model_validator(mode="after")
    def _the_start_goes_with_a_warm_up(self) -> Schedule:
        if self.warmup_start_factor is not None and not self.warmup_iterations:
            raise ValueError("warmup_start_factor goes with warmup_iterations, which are 0")
        return self


class Photometric(Strict):
    """How strongly `PhotoMetricDistortion` changes colours; each change half of the time.

    The defaults are mmsegmentation's.
    """

    brightness_delta: Annotated[int, Field(ge=0, le=255)] = 32
    """Greatest value that is added to all channels or taken from them, of 255."""
    contrast_range: Range = [0.5, 1.5]
    """Least and greatest factor on all channels."""
    saturation_range: Range = [0.5, 1.5]
    """Least and greatest factor on the saturation."""
    hue_delta: Annotated[int, Field(ge=1, le=90)] = 18
    """Greatest turn of the hue, either way, in steps of two degrees."""


class Augmentation(Strict):
    """Training-time augmentation; the order is scale, crop, flip, photometric distortion."""

    scale_range: Scales | None = None
    """Least and greatest factor on the size of an image."""
    base_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Bounds in pixels of the files, the larger on the longer side, into which images are fitted
    and which both the study's `image_scale` and `scale_range` multiply; without it, their own size,
    which has to be one for all."""
    crop_size: Annotated[list[SidePixels], Field(min_length=2, max_length=2)] | None = None
    """Height and width in pixels after all scaling: neither `image_scale` nor `scale_range`
    multiplies it. An image that is smaller is padded with void; a crop that is larger, both ways,
    than any image can become is refused."""
    cat_max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Largest share of one class in a crop: one with more is drawn anew, ten times at most. As in
    mmsegmentation's `RandomCrop`; 1 takes the first."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability of mirroring an image, left to right."""
    photometric: bool | Photometric = False
    """Random brightness, contrast, saturation and hue, as mmsegmentation's `PhotoMetricDistortion`:
    at its own strengths for true, or at those given."""

    @model_validator(mode="after")
    def _a_random_scale_needs_a_crop(self) -> Augmentation:
        if self.scale_range is not None and self.crop_size is None:
            raise ValueError("scale_range needs crop_size: scaled images cannot form a batch")
        if self.base_size is not None and self.scale_range is None:
            raise ValueError("base_size goes with scale_range, which multiplies it")
        return self

    def largest(self, image_scale: float) -> tuple[int, int] | None:
        """Longer and shorter side in pixels that no image exceeds before it is cropped.

        None without `base_size`, where the images themselves tell.
        """
        if self.base_size is None or self.scale_range is None:
            return None
        # As training rounds them, and then mmcv's RandomResize.
        sides = [int(round(side * image_scale) * max(self.scale_range)) for side in self.base_size]
        return max(sides), min(sides)

    def crop_fault(self, images: str, image_scale: float) -> str:
        """Why a crop is refused that exceeds, both ways, `images`, which say how large they get."""
        how = "their own size" if self.base_size is None else f"base_size {self.base_size}"
        how += "" if image_scale == 1 else f" x image_scale {image_scale:g}"
        if self.scale_range is not None:
            how += f" x {max(self.scale_range):g} of scale_range"
        return (
            f"crop_size: {self.crop_size} (height, width) exceeds, both ways, {images} ({how}); "
            "the rest of each crop would be padding; expected a side within that (crop_size is in "
            "pixels after scaling, base_size in those of the files)"
        )


class Training(Strict):
    iterations: Iterations
    """Steps of the optimizer."""
    batch_size: Images
    """Images of one step of the optimiser, however many processes share them: the learning rate
    goes with it, and does not change with the study's `processes`."""
    optimizer: Optimizer
    """What makes a step of the gradient."""
    schedule: Schedule = Schedule()
    """How the learning rate changes."""
    augmentation: Augmentation = Augmentation()
    """What is done to training images at random."""
    checkpoint_interval: Iterations
    """Iterations between checkpoints, of which the last two are kept: what a kill may cost."""
    log_interval: Iterations
    """Iterations between points of the curves."""
    diagnostics_interval: Iterations | None = None
    """Iterations between records of what a method says of itself, such as SAR of its anchors; the
    analyses draw them. Without it, `log_interval`, or its least multiple with which there are 200
    records at most."""
    validation_interval: Iterations | None = None
    """Iterations between looks at the val split, for curves only: the last checkpoint counts."""

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Training:
        if self.schedule.warmup_iterations >= self.iterations:
            raise ValueError(
                f"schedule.warmup_iterations is {self.schedule.warmup_iterations}, expected fewer "
                f"than iterations ({self.iterations})"
            )
        return self
