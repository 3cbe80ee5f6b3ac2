"""What the queue and the HTTP faces need of a model: what it is, and how it draws.

A family of models is one file here and one entry in `models.py`. Nothing here needs torch.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # pictures, (N, H, W, 3) RGB; of one, (H, W, 3)

PREVIEWS = 5  # of a run before its last step, at least, where it has as many steps
PREVIEW_INTERVAL_S = 1.0  # slow steps show more


@dataclass(frozen=True)
class Text:
    """Words for people, in both languages."""

    ja: str
    en: str


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the denoising runs that make a picture, each from what the one before has drawn."""

    name: str
    label: Text
    side: int  # pixels of what it draws
    steps: int  # unless the request says otherwise
    is_guided: bool = False  # guidance costs it two passes a step, one without the prompt


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How closely a picture may follow its prompt; 1 is no guidance."""

    default: float
    least: float = 1.0
    most: float = 20.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.default <= self.most:
            raise ValueError(f"guidance from {self.least:g} to {self.most:g} with default {self.default:g}, from 1 on")


@dataclass(frozen=True, kw_only=True)
class ModelWarning:
    """What people should know before they draw."""

    text: Text
    words: tuple[str, ...] = ()  # of a prompt that it is about; none: it is about all


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a model knows that does not read any English."""

    words: tuple[str, ...]  # every word that it has learned
    word_pattern: str  # of a word in a prompt, as a regular expression
    function_words: tuple[str, ...]  # that say nothing about what to draw, known or not
    experimental: tuple[str, ...]  # phrases of those words that it does not draw well
    untrained: tuple[str, ...]  # names of things whose words it knows, but which it never saw
    things: Mapping[str, tuple[Text, ...]]  # that it can draw, by kind: concept, colour, scene, style


@dataclass(frozen=True, kw_only=True)
class Sprites:
    """A sheet of small square pictures, one for each thing, side by side and row by row."""

    sheet: Path  # a WebP file
    side: int  # of a picture, in pixels
    columns: int
    things: tuple[str, ...]  # English names, in the order of the pictures

    def __post_init__(self) -> None:
        if self.side < 1 or self.columns < 1:
            raise ValueError(f"a sheet of {self.columns} columns of {self.side} pixels has no pictures")


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """All that anyone outside of an engine needs to know of it; the page draws its form from it."""

    model: str  # its name in requests and pictures
    model_hash: str = ""  # of the weights; empty before they are loaded
    device: str = ""  # that it draws on; empty before the weights are loaded
    stages: tuple[Stage, ...]  # in the order in which they draw; one or two
    samplers: tuple[str, ...]  # the default first
    qualities: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # steps by stage, by the quality's name
    guidance: Guidance | None = None  # None: it takes none
    has_negative_prompt: bool = False
    has_inpainting: bool = False
    languages: tuple[str, ...] = ("en",)  # that it reads
    license: str = ""  # as SPDX writes it
    warnings: tuple[ModelWarning, ...] = ()
    examples: tuple[Text, ...] = ()  # prompts that it draws well
    vocabulary: Vocabulary | None = None  # None: it reads any text of its languages
    versions: Mapping[str, str] = field(default_factory=dict)  # of the libraries that draw
    sprites: Sprites | None = None  # of the things of its vocabulary
    slots: int = 1  # batches that it can draw at once

    def __post_init__(self) -> None:
        names = [stage.name for stage in self.stages]
        if len(names) not in (1, 2) or len(set(names)) < len(names):
            raise ValueError(f"the model {self.model} has the stages {names}: it needs one or two, of different names")
        if not self.samplers:
            raise ValueError(f"the model {self.model} has no sampler")
        for name, steps in self.qualities.items():
            if steps.keys() != set(names):
                raise ValueError(f"the quality {name} of {self.model} has not the steps of each stage")

    @property
    def guidance_scale(self) -> float:
        """Unless the request says otherwise."""
        return self.guidance.default if self.guidance else 1.0

    @property
    def side(self) -> int:
        """Of a finished picture, in pixels."""
        return self.stages[-1].side


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture to make."""

    prompt: str
    seed: int
    guidance_scale: float
    negative_prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What the pictures of one batch share."""

    sampler: str
    steps: Mapping[str, int]  # of each stage that is run, in the model's order


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One denoising step of a batch is done."""

    stage: str
    step: int
    total_steps: int  # of this stage
    x_start: Pixels | None = None  # the current estimate of the whole batch, where the step is worth a preview


class Engine(Protocol):
    """Draws batches: as many at once as its `info` has slots, each called for by a thread of its own."""

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

    def batch_key(self, drawing: Drawing, settings: BatchSettings) -> str:
        """Pictures with equal keys may share a batch."""

    def generate(
        self, drawings: Sequence[Drawing], settings: BatchSettings
    ) -> Generator[StepReport | Pixels, None, None]:
        """Draw a batch of pictures with one key: a report after every step, and at last the pictures.

        Closing the generator ends the drawing after at most one more step.

        Raises:
            OutOfMemory: the batch does not fit the device.
        """


class Previews:
    """Says which steps of one run are worth a preview: some evenly spaced, and more of them where steps are slow."""

    def __init__(self, total_steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total_steps, self.clock = total_steps, clock
        self.shown_at = clock()

    def is_due(self, step: int) -> bool:
        """Whether step 1, 2, … of the whole run is one; the last is not, as the finished pictures follow at once."""
        now = self.clock()
        is_turn = step % max(1, (self.total_steps - 1) // PREVIEWS) == 0
        if step == self.total_steps or not (is_turn or now - self.shown_at >= PREVIEW_INTERVAL_S):
            return False
        self.shown_at = now
        return True


def finished(run: Generator[StepReport | Pixels, None, None]) -> Pixels:
    """The pictures of a run whose steps nobody follows."""
    *_, pictures = run
    assert not isinstance(pictures, StepReport)
    return pictures
