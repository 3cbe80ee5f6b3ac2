"""The embedded model: its weights beside this file, opened as an ordinary GLIDE pipeline."""

import json
from pathlib import Path

import torch

from backend_gpu.errors import CheckpointError
from backend_gpu.glide.checkpoint import load_unet, read_metadata
from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.pipeline import Pipeline
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet

WEIGHTS = Path(__file__).parent / "weights"
EXPERIMENTAL = "experimental.json"  # beside the weights, written by `evaluate --card`
STEPS, UPSAMPLE_STEPS, GUIDANCE_SCALE = 20, 4, 2.5  # what docs/samplers.md found best
DTYPE = torch.float32  # of the computation; the files are half precision


def open_mini(folder: Path = WEIGHTS) -> Pipeline:
    """Load the mini model.

    Raises:
        CheckpointError: its weights are missing or broken.
    """
    words = known_words(folder)
    base, upsampler = (_open(folder / f"{name}.safetensors") for name in ("base", "upsampler"))
    if base.config.text is None:
        raise CheckpointError(f"{folder / 'base.safetensors'} is no base model: it reads no text")
    return Pipeline(base, upsampler, WordTokenizer(words, base.config.text.context))


def known_words(folder: Path = WEIGHTS) -> list[str]:
    """The words of its captions; any other is noise to it."""
    return list(json.loads(_metadata(folder / "base.safetensors")["words"]))


def trained_concepts(folder: Path = WEIGHTS) -> list[str]:
    """English names of the concepts that the model claims to draw (its card says how well)."""
    return list(json.loads(_metadata(folder / "base.safetensors")["concepts"]))


def experimental_phrases(folder: Path = WEIGHTS) -> list[str]:
    """Phrases of the grammar that the model knows and its evaluation found wanting; none before any evaluation."""
    path = folder / EXPERIMENTAL
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def _open(path: Path) -> UNet:
    return load_unet(path, UNetConfig.from_json(_metadata(path)["config"]), DTYPE)


def _metadata(path: Path) -> dict[str, str]:
    metadata = read_metadata(path)
    if missing := {"config", "words", "concepts"} - metadata.keys():
        raise CheckpointError(f"{path} is not a mini model's file: it doesn't tell its {', '.join(sorted(missing))}")
    return metadata
