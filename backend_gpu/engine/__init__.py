"""The picture machine behind the queue: one protocol, one file per kind. Only those files know torch or Ray."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backend_gpu.glide.config import SamplerName, StageName

Pixels = NDArray[np.uint8]  # (N, H, W, 3) RGB


@dataclass(frozen=True)
class Text:
    """Words for people, in both languages."""

    ja: str
    en: str


Example = Text  # a prompt that shows what a model draws well


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One pass of drawing; each next one starts from what the one before has made."""

    name: str
    label: Text
    side: int  # of its pictures, in pixels
    steps: int  # unless the caller chooses
    is_guided: bool = False  # a guided picture goes in twice


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How closely a text may be followed."""

    default: float
    least: float
    most: float


@dataclass(frozen=True, kw_only=True)
class ModelWarning:
    """What people should know before they draw."""

    words: tuple[str, ...]  # in whose company it is shown; none: always
    text: Text


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a model reads that does not read any English."""

    words: tuple[str, ...]  # every word that it knows
    word_pattern: str  # of a word in a prompt, as a regular expression
    function_words: tuple[str, ...]  # that say nothing about what to draw, known or not
    experimental: tuple[str, ...]  # phrases of those words that it does not draw well
    untrained: tuple[str, ...]  # names of things whose words it knows, but which it never saw
    things: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)  # by kind: concept, colour, scene, style


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
    stages: tuple[Stage, ...] = ()  # in drawing order
    samplers: tuple[str, ...] = ("dpmpp_2m", "ddim", "ddpm")  # the default first
    qualities: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # by name: steps of each stage
    guidance: Guidance | None = None
    has_negative_prompt: bool = True
    has_inpainting: bool = False
    languages: tuple[str, ...] = ("en",)
    license: str = "MIT"
    warnings: tuple[ModelWarning, ...] = ()
    examples: tuple[Example, ...] = ()
    vocabulary: Vocabulary | None = None  # None: it reads any English
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries that draw
    sprites: Path | None = None  # a sheet of small pictures of what it draws
    slots: int = 1  # batches that it draws at a time


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
    """Draws batches, one at a time."""

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
