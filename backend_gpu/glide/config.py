"""Shapes of the networks: the four published checkpoints, and what a mini model changes; names that need no torch."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

NoiseSchedule = Literal["squared_cosine", "linear"]
PredictionType = Literal["eps", "x_start"]
SamplerName = Literal["ddpm", "ddim", "dpmpp_2m"]
StageName = Literal["base", "upsample"]
Pixels = NDArray[np.uint8]  # pictures, (N, H, W, 3) or (H, W, 3) RGB


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Shape of the text transformer; the defaults are the published one (GPT-2 byte-pair tokens)."""

    vocab_size: int = 50257
    context: int = 128  # tokens; longer prompts are cut
    width: int = 512
    layers: int = 16
    heads: int = 8

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"text width {self.width} is not divisible by {self.heads} heads")


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Shape of one UNet; the defaults are the 64x64 base model.

    `patch_size` and `prediction` exist for small models: a patch of p turns the image into p*p times the channels at
    1/p of the side (space-to-depth stem, depth-to-space head), and the prediction says what the first three output
    channels mean. The published checkpoints have patch 1 and predict eps.
    """

    image_size: int = 64
    in_channels: int = 3  # x_t; +3 for the enlarged low_res image, +4 for the known pixels and their mask
    num_channels: int = 192
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    attention_resolutions: tuple[int, ...] = (32, 16, 8)  # sides of the feature maps that attend
    head_channels: int = 64
    text: TextConfig | None = TextConfig()
    noise_schedule: NoiseSchedule = "squared_cosine"
    patch_size: int = 1
    prediction: PredictionType = "eps"

    def __post_init__(self) -> None:
        halvings = len(self.channel_mult) - 1
        if self.image_size % (self.patch_size * 2**halvings):
            raise ValueError(
                f"{self.image_size} pixels in patches of {self.patch_size} can't be halved {halvings} times"
            )
        for width in {self.num_channels * mult for mult in self.channel_mult}:
            if width % 32 or width % self.head_channels:
                raise ValueError(
                    f"a level of {width} channels does not fit 32 groups and heads of {self.head_channels}"
                )

    @property
    def embedding_channels(self) -> int:
        """Width of the time (and pooled text) embedding."""
        return 4 * self.num_channels

    def to_json(self) -> str:
        """This shape as text, to be kept beside weights."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "UNetConfig":
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
        }
        if fields["text"]:
            fields["text"] = TextConfig(**fields["text"])
        return UNetConfig(**fields)


BASE = UNetConfig()
UPSAMPLER = UNetConfig(
    image_size=256,
    in_channels=6,
    channel_mult=(1, 1, 2, 2, 4, 4),
    num_res_blocks=2,
    noise_schedule="linear",
)
BASE_INPAINT = replace(BASE, in_channels=7)
UPSAMPLER_INPAINT = replace(UPSAMPLER, in_channels=10)
