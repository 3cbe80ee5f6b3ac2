"""The embedded model: its weights beside this file, opened as an ordinary GLIDE pipeline."""

from pathlib import Path

import torch

from backend_gpu.errors import CheckpointError
from backend_gpu.glide.checkpoint import load_unet
from backend_gpu.glide.config import UNetConfig
from backend_gpu.glide.pipeline import Pipeline
from backend_gpu.glide.tokenizer import WordTokenizer
from backend_gpu.glide.unet import UNet
from backend_gpu.mini.metadata import WEIGHTS, known_words, mini_metadata

DTYPE = torch.float32  # of the computation; the files are half precision


def open_mini(folder: Path = WEIGHTS, dtype: torch.dtype = DTYPE) -> Pipeline:
    """Load the mini model.

    Raises:
        CheckpointError: its weights are missing or broken.
    """
    words = known_words(folder)
    base, upsampler = (_open(folder / f"{name}.safetensors", dtype) for name in ("base", "upsampler"))
    if base.config.text is None:
        raise CheckpointError(f"{folder / 'base.safetensors'} is no base model: it reads no text")
    return Pipeline(base, upsampler, WordTokenizer(words, base.config.text.context))


def _open(path: Path, dtype: torch.dtype) -> UNet:
    return load_unet(path, UNetConfig.from_json(mini_metadata(path)["config"]), dtype)
