"""A small network under the published checkpoints' names."""

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from backend_gpu.glide.checkpoint import PublishedKind, to_our_names
from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.unet import UNet

DATA = Path(__file__).parents[2] / "data"
KEYS: dict[PublishedKind, dict[str, list[int]]] = json.loads(
    gzip.decompress((DATA / "glide_keys.json.gz").read_bytes())
)
TINY = UNetConfig(
    image_size=16,
    num_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    head_channels=32,
    text=TextConfig(vocab_size=20, context=4, width=32, layers=2, heads=2),
)
NUMBER = re.compile(r"\d+")


def official(kind: PublishedKind) -> dict[str, Tensor]:
    """Tensors of the published names and shapes that take no memory."""
    return {name: torch.empty(1).expand(shape) for name, shape in KEYS[kind].items()}


def in_published_form(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the renaming: look up which official name becomes ours, whatever the numbers of the block."""
    templates = {
        NUMBER.sub("#", next(iter(to_our_names({name: tensor})))): (name, tensor.ndim)
        for kind in KEYS
        for name, tensor in official(kind).items()
    }
    published = {}
    for name, tensor in weights.items():
        template, ndim = templates[NUMBER.sub("#", name)]
        published[with_numbers(template, NUMBER.findall(name))] = tensor[..., None] if ndim == 3 else tensor
    return published


def with_numbers(template: str, numbers: Iterable[str]) -> str:
    """A name with these numbers in place of its first ones."""
    following = iter(numbers)
    return NUMBER.sub(lambda match: next(following, match[0]), template)


def tiny_model() -> UNet:
    """Every parameter is random, so that every branch reaches the output."""
    torch.manual_seed(0)
    model = UNet(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    return model


def run(model: UNet) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 16, 16, generator=generator), torch.tensor([7.0, 500.0])
    tokens, mask = (
        torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]]),
        torch.tensor([[True] * 3 + [False], [True] + [False] * 3]),
    )
    with torch.inference_mode():
        output = model(x, t, model.encode_text(tokens, mask))
    assert isinstance(output, Tensor)
    return output
