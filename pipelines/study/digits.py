"""What the embedded data set is made of, as its card may say it."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)

MAX_DIGITS = 12
"""Digits in a scene: each takes its place from a sequence of its own, see `prepare.digits`."""

MAX_SCENES = 10**6
"""Of a split: more than anybody waits for."""


class DigitsSpec(BaseModel):
    """What the data set is made of; two equal specifications give the same arrays.

    Attributes:
        seed: Non-negative; decides the split of the glyphs and everything drawn.
        size: Side of a scene in pixels, 32 to 512.
        digits_per_scene: Least and greatest number of digits in a scene, at most 12.
        digit_size: Least and greatest side in pixels of the square that a glyph's 8x8 cells cover.
        imbalance: Ratio (at least 1) between the most and the least frequent digit in training; the
            digit of rank ``r`` in `prepare.digits.FREQUENCY_ORDER` has a frequency proportional to
            ``imbalance ** (-r / 9)``. Val and test are uniform.
        scenes: Number of scenes for each of ``train``, ``val`` and ``test``.

    Raises:
        pydantic.ValidationError: On an unknown key, a wrong type or a value out of range; the error
            names the field.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    size: Annotated[int, Field(ge=32, le=512)] = 64
    # Not strict for the container only: YAML has lists and no tuples.
    digits_per_scene: Annotated[tuple[int, int], Field(strict=False)] = (2, 5)
    digit_size: Annotated[tuple[int, int], Field(strict=False)] = (16, 26)
    imbalance: Annotated[float, Field(ge=1.0, le=1e4, allow_inf_nan=False)] = 30.0
    scenes: dict[str, int] = Field(default_factory=lambda: {"train": 800, "val": 200, "test": 400})

    @field_validator("digits_per_scene")
    @classmethod
    def _check_digits_per_scene(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if not 1 <= low <= high <= MAX_DIGITS:
            raise ValueError(
                f"digits_per_scene must be (least, greatest) with 1 <= least <= greatest <= "
                f"{MAX_DIGITS}, got {value}"
            )
        return value

    @field_validator("digit_size")
    @classmethod
    def _check_digit_size(cls, value: tuple[int, int]) -> tuple[int, int]:
        low, high = value
        if not 8 <= low <= high:
            raise ValueError(
                f"digit_size must be (least, greatest) in pixels with 8 <= least <= greatest, "
                f"got {value}"
            )
        return value

    @field_validator("scenes")
    @classmethod
    def _check_scenes(cls, value: dict[str, int]) -> dict[str, int]:
        if set(value) != set(SPLITS):
            raise ValueError(
                f"scenes must have exactly the keys {', '.join(SPLITS)}, got "
                f"{', '.join(map(str, value)) or 'none'}"
            )
        for split, count in value.items():
            if not 1 <= count <= MAX_SCENES:
                raise ValueError(
                    f"scenes must be 1 to {MAX_SCENES} for every split, got {split}: {count}"
                )
        return value

    @model_validator(mode="after")
    def _check_room(self) -> DigitsSpec:
        if 4 * self.digit_size[1] > 3 * self.size:
            raise ValueError(
                f"digit_size: the greatest, {self.digit_size[1]}, must be at most three quarters "
                f"of size, {self.size}"
            )
        mean_side = sum(self.digit_size) / 2
        if self.digits_per_scene[1] * mean_side**2 > self.size**2:
            raise ValueError(
                f"digits_per_scene: {self.digits_per_scene[1]} digits of {mean_side:g} pixels do "
                f"not fit into a scene of size {self.size}"
            )
        return self
