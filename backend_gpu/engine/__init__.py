"""The picture machine behind the queue: one protocol, one file per kind. Only those files know torch or Ray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backend_gpu.glide.config import SamplerName, StageName

Pixels = NDArray[np.uint8]  # (N, H, W, 3) RGB


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What an engine draws with, and how it draws best."""

    model: str  # written into every picture
    model_hash: str  # of the weights
    device: str
    steps: int
    upsample_steps: int
    sampler: SamplerName
    guidance_scale: float
    vocabulary: tuple[str, ...] = ()  # every word that it knows; empty if it reads any English
    word_pattern: str = ""  # of a word in a prompt, as a regular expression; empty if it reads any English
    function_words: tuple[str, ...] = ()  # that say nothing about what to draw, known or not
    experimental: tuple[str, ...] = ()  # phrases of those words that it does not draw well
    untrained: tuple[str, ...] = ()  # names of things whose words it knows, but which it never saw
    slots: int = 1  # batches that it can draw at once


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture to make."""

    prompt: str
    seed: int
    guidance_scale: float
    negative_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the pictures of one batch share."""

    sampler: SamplerName
    steps: int
    upsample_steps: int
    upscale: bool  # to 256x256


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One denoising step of a batch is done."""

    stage: StageName
    step: int
    total_steps: int  # of this stage
    x_start: Callable[[], Pixels]  # the current estimate of the whole batch; costs only who asks for it


OnStep = Callable[[StepReport], None]


class Engine(Protocol):
    """Draws batches, as many at once as its info says, each in a thread of its own."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is."""

    def check_prompt(self, prompt: str, *, is_negative: bool = False) -> list[str]:
        """Words that the model has never seen; they are left out when it is drawn.

        Args:
            is_negative: it says what to stay away from, which need not be a thing.

        Raises:
            InvalidRequest: the prompt is too long for the text encoder, or the model can draw nothing of it.
        """

    def generate(self, drawings: Sequence[Drawing], settings: Settings, on_step: OnStep) -> Pixels:
        """Draw a batch; what `on_step` raises ends it.

        Raises:
            OutOfMemory: the batch does not fit the device.
        """
