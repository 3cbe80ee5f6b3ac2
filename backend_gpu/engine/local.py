"""Models opened in this process."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from backend_gpu.errors import BackendError, InvalidRequest
from backend_gpu.glide.acceleration import accelerate, best_dtype
from backend_gpu.glide.checkpoint import open_published, read_metadata
from backend_gpu.glide.pipeline import Pipeline, Sampling
from backend_gpu.glide.tokenizer import BytePairTokenizer, WordTokenizer
from backend_gpu.mini.model import WEIGHTS, open_mini
from backend_gpu.settings import ModelName, Settings

# English words that say nothing about what to draw
FUNCTION_WORDS = frozenset({"a", "an", "and", "the", "of", "on", "in", "at", "to", "background", "style", ","})


@dataclass(frozen=True)
class Model:
    """A pipeline and how it draws best."""

    name: str  # written into every picture
    hash: str  # of the weights
    pipeline: Pipeline
    sampling: Sampling
    guidance_scale: float

    def unknown_words(self, prompt: str) -> list[str]:
        """Words that the model has never seen.

        Raises:
            InvalidRequest: the prompt is too long for the text encoder, or the model knows nothing of it.
        """
        tokenizer = self.pipeline.tokenizer
        if (count := tokenizer.count(prompt)) > tokenizer.context:
            raise InvalidRequest(f"the prompt has {count} tokens, at most {tokenizer.context}: say it shorter")
        if not isinstance(tokenizer, WordTokenizer):
            return []
        unknown = tokenizer.unknown(prompt)
        if unknown and set(tokenizer.words(prompt)) - set(unknown) <= FUNCTION_WORDS:
            raise InvalidRequest(f"the model {self.name} can draw none of this: {', '.join(unknown)}")
        return unknown


def open_model(name: ModelName, settings: Settings) -> Model:
    """Open a model, downloading the published one at its first use.

    Raises:
        CheckpointError: weights are missing or broken.
        BackendError: the device is not there.
    """
    device = choose_device(settings.device)
    if name == "mini":
        pipeline = open_mini()
        weights_hash = sha256(
            path.read_bytes() for path in (WEIGHTS / "base.safetensors", WEIGHTS / "upsampler.safetensors")
        )
        model = Model("kotoe-mini", weights_hash, pipeline, Sampling(steps=20, upsample_steps=4), guidance_scale=2.5)
    else:
        folder, dtype = settings.data_dir / "models", best_dtype(device)
        pipeline = Pipeline(
            open_published("base", folder, dtype), open_published("upsample", folder, dtype), BytePairTokenizer()
        )
        model = Model(
            "glide", published_hash(folder), pipeline, Sampling(steps=20, upsample_steps=10), guidance_scale=3.0
        )
    for unet in (pipeline.base, pipeline.upsampler):
        accelerate(unet.to(device))
    return model


def choose_device(wish: str) -> torch.device:
    """The device asked for; with "auto" a GPU if there is one."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise BackendError("BACKEND_DEVICE is cuda, but torch sees no CUDA device: check the driver, or use cpu")
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wish)


def published_hash(folder: Path) -> str:
    """Identifies the published checkpoints in use."""
    files = sorted(path for kind in ("base", "upsample") for path in folder.glob(f"{kind}.*.safetensors"))
    return sha256(read_metadata(path)["source_sha256"].encode() for path in files)


def sha256(parts: Iterable[bytes]) -> str:
    """Hexadecimal digest of several pieces."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
