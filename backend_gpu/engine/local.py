"""The engine that draws in this process."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import torch

from backend_gpu.engine import Drawing, EngineInfo, OnStep, Pixels, Settings, StepReport
from backend_gpu.engine.published import open_published, published_in_use
from backend_gpu.errors import BackendError, InvalidRequest, OutOfMemory
from backend_gpu.glide.acceleration import accelerate, best_dtype
from backend_gpu.glide.metadata import read_metadata
from backend_gpu.glide.pipeline import Picture, Pipeline, Progress, Sampling, to_uint8
from backend_gpu.glide.tokenizer import BytePairTokenizer
from backend_gpu.mini.metadata import (
    GUIDANCE_SCALE,
    STEPS,
    UPSAMPLE_STEPS,
    WEIGHTS,
    experimental_phrases,
    known_words,
    trained_concepts,
)
from backend_gpu.mini.model import open_mini
from backend_gpu.mini.vocabulary import CONCEPTS, load_vocabulary
from backend_gpu.mini.words import FUNCTION_WORDS, WORD_PATTERN, PromptWords, words_of
from backend_gpu.plain_text import visible
from backend_gpu.settings import MODEL_IDS, ModelName


class LocalEngine:
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

    def generate(self, drawings: Sequence[Drawing], settings: Settings, on_step: OnStep) -> Pixels:
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
            sampler=settings.sampler,
            steps=settings.steps,
            upsample_steps=settings.upsample_steps,
            upscale=settings.upscale,
        )
        try:
            with closing(self.pipeline.generate(pictures, sampling)) as run:
                for item in run:
                    if isinstance(item, Progress):
                        on_step(step_report(item))
                    else:
                        pixels = item
            return pixels
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError; a CPU's has no class
            is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not is_memory:
                raise
            raise OutOfMemory(f"{len(drawings)} pictures do not fit into the memory of {self.info.device}") from error


def step_report(progress: Progress) -> StepReport:
    """What the pipeline says of a step, for those who know no torch."""
    return StepReport(
        stage=progress.stage,
        step=progress.step,
        total_steps=progress.total_steps,
        x_start=lambda: to_uint8(progress.x_start),
    )


def open_engine(name: ModelName, device_wish: str, checkpoints: Path, mini_dir: Path | None = None) -> LocalEngine:
    """Open a model, downloading the published one at its first use.

    Args:
        name: mini or glide.
        device_wish: auto, cpu or cuda.
        checkpoints: where the published weights are, or go.
        mini_dir: a mini model as its training exports it; the embedded one if not given.

    Raises:
        CheckpointError: weights are missing or broken.
        BackendError: the device is not there.
    """
    device = choose_device(device_wish)
    if name == "mini":
        weights = mini_dir / "weights" if mini_dir else WEIGHTS
        pipeline = open_mini(weights)
        files = (weights / "base.safetensors", weights / "upsampler.safetensors")
        model_hash = sha256(path.read_bytes() for path in files)
        steps, upsample_steps, guidance_scale = STEPS, UPSAMPLE_STEPS, GUIDANCE_SCALE
        known, experimental = known_words(weights), tuple(experimental_phrases(weights))
        vocabulary = load_vocabulary(mini_dir / CONCEPTS.name if mini_dir else CONCEPTS)
        trained = set(trained_concepts(weights))
        untrained = tuple(concept.english for concept in vocabulary.concepts if concept.english not in trained)
        words = PromptWords(known, vocabulary)
    else:
        dtype = best_dtype(device)
        pipeline = Pipeline(
            open_published("base", checkpoints, dtype),
            open_published("upsample", checkpoints, dtype),
            BytePairTokenizer(),
        )
        model_hash = published_hash(checkpoints, dtype)
        steps, upsample_steps, guidance_scale = 20, 10, 3.0
        known, experimental, untrained, words = [], (), (), None
    for unet in (pipeline.base, pipeline.upsampler):
        accelerate(unet.to(device))
    info = EngineInfo(
        model=MODEL_IDS[name],
        model_hash=model_hash,
        device=str(device),
        steps=steps,
        upsample_steps=upsample_steps,
        sampler="dpmpp_2m",
        guidance_scale=guidance_scale,
        vocabulary=tuple(known),
        word_pattern=WORD_PATTERN if words else "",
        function_words=FUNCTION_WORDS if words else (),
        experimental=experimental,
        untrained=untrained,
    )
    return LocalEngine(pipeline, info, words)


def choose_device(wish: str) -> torch.device:
    """The device asked for; with "auto" a GPU if there is one."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise BackendError("BACKEND_DEVICE is cuda, but torch sees no CUDA device: check the driver, or use cpu")
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wish)


def published_hash(folder: Path, dtype: torch.dtype) -> str:
    """Identifies the two published checkpoints in use: the same in every precision that they were converted to."""
    files = (published_in_use("base", folder, dtype), published_in_use("upsample", folder, dtype))
    return sha256(read_metadata(path)["source_sha256"].encode() for path in files)


def sha256(parts: Iterable[bytes]) -> str:
    """Hexadecimal digest of several pieces."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
