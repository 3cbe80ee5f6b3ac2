"""An engine that draws in this process with GLIDE's networks, published or embedded."""

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import cast

import numpy as np
import torch

from backend_gpu.engine import BatchSettings, Drawing, EngineInfo, Pixels, Previews, StepReport
from backend_gpu.errors import BackendError, InvalidRequest, OutOfMemory
from backend_gpu.glide.acceleration import accelerate
from backend_gpu.glide.config import SamplerName
from backend_gpu.glide.pipeline import Picture, Pipeline, Sampling, StepEstimate, to_uint8
from backend_gpu.mini.words import FUNCTION_WORDS, PromptWords, words_of
from backend_gpu.plain_text import visible


class PipelineEngine:
    """A pipeline in this process.

    Args:
        words: of a model that knows only some; None if it reads any English.
    """

    def __init__(self, pipeline: Pipeline, info: EngineInfo, words: PromptWords | None = None) -> None:
        self.pipeline, self.info, self.words = pipeline, info, words

    def check_prompt(self, prompt: str, *, is_negative: bool = False) -> list[str]:
        """See Engine."""
        tokenizer = self.pipeline.tokenizer
        if (count := tokenizer.count(self._readable(prompt))) > tokenizer.context:
            raise InvalidRequest(f"the prompt has {count} tokens, at most {tokenizer.context}: say it shorter")
        if not self.words:
            return []
        unknown = self.words.unknown(prompt)
        said = set(words_of(prompt)).difference(FUNCTION_WORDS, unknown)
        if not said and not unknown:
            raise InvalidRequest("the prompt has no word that says what to draw: write it in English")
        if not said or (unknown and not is_negative and not self.words.names_a_thing(prompt)):
            raise InvalidRequest(f"the model {self.info.model} can draw none of this: {', '.join(unknown)}")
        return unknown

    def _readable(self, prompt: str) -> str:
        return self.words.readable(prompt) if self.words else visible(prompt)

    def batch_key(self, drawing: Drawing, settings: BatchSettings) -> str:
        """See Engine: each picture has a prompt, a seed and a guidance of its own."""
        del drawing
        return f"{settings.sampler} {dict(settings.steps)}"

    def generate(
        self, drawings: Sequence[Drawing], settings: BatchSettings
    ) -> Generator[StepReport | Pixels, None, None]:
        """See Engine."""
        pictures = [
            Picture(
                prompt=self._readable(drawing.prompt),
                seed=drawing.seed,
                guidance_scale=drawing.guidance_scale,
                negative_prompt=self._readable(drawing.negative_prompt),
            )
            for drawing in drawings
        ]
        sampling = Sampling(
            sampler=cast(SamplerName, settings.sampler),  # one of the info's
            steps=settings.steps["base"],
            upsample_steps=settings.steps.get("upsample", 1),
            upscale="upsample" in settings.steps,
        )
        previews = Previews(sum(settings.steps.values()))
        try:
            with closing(self.pipeline.generate(pictures, sampling)) as run:
                for step, drawn in enumerate(run, 1):
                    yield drawn if isinstance(drawn, np.ndarray) else step_report(drawn, previews.is_due(step))
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError; a CPU's has no class
            is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not is_memory:
                raise
            raise OutOfMemory(f"{len(drawings)} pictures do not fit into the memory of {self.info.device}") from error


def step_report(estimate: StepEstimate, is_shown: bool) -> StepReport:
    """What the pipeline says of a step, for those who know no torch."""
    return StepReport(
        stage=estimate.stage,
        step=estimate.step,
        total_steps=estimate.total_steps,
        x_start=to_uint8(estimate.x_start) if is_shown else None,
    )


def on_device(pipeline: Pipeline, device: torch.device) -> Pipeline:
    """The pipeline with its networks on that device, in the form that is fastest there."""
    for unet in (pipeline.base, pipeline.upsampler):
        accelerate(unet.to(device))
    return pipeline


def choose_device(wish: str) -> torch.device:
    """The device asked for; with "auto" a GPU if there is one.

    Raises:
        BackendError: it is not there.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise BackendError("BACKEND_DEVICE is cuda, but torch sees no CUDA device: check the driver, or use cpu")
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wish)
