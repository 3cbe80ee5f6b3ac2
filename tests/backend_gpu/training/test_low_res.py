from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend_gpu.glide.config import TextConfig, UNetConfig
from backend_gpu.glide.unet import TextContext, UNet
from backend_gpu.training import low_res
from backend_gpu.training.low_res import LowRes

EMPTY = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
TOKENS, MASK = torch.full((3, 4), 5), torch.ones(3, 4, dtype=torch.bool)
BASE = UNetConfig(
    image_size=8,
    num_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    head_channels=32,
    text=TextConfig(vocab_size=8, context=4, width=32, layers=1, heads=1),
    prediction="x_start",
)


class Reads(UNet):
    """A base model that sees a flat picture, as bright as its caption's first token is high."""

    def __init__(self) -> None:
        super().__init__(BASE)
        self.tokens: list[Tensor] = []

    def encode_text(self, tokens: Tensor, mask: Tensor) -> TextContext:
        self.tokens.append(tokens)
        context = super().encode_text(tokens, mask)
        return replace(context, pooled=tokens[:, :1].expand_as(context.pooled).float())

    def forward(self, x: Tensor, _t: Tensor, text: TextContext | None = None) -> Tensor:
        assert text is not None
        brightness = (text.pooled[:, 0] / 10)[:, None, None, None]
        return brightness * torch.ones(len(x), 6, 8, 8)


def enlarged(network: UNet, seed: int = 0, pictures: Tensor | None = None) -> Tensor:
    pictures = torch.zeros(3, 3, 32, 32) if pictures is None else pictures
    made = LowRes(network.eval().requires_grad_(False), EMPTY, seed)
    return made.enlarged(pictures, TOKENS, MASK, torch.Generator().manual_seed(seed))


def test_the_base_model_paints_the_picture_again_with_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_res, "REPAINTED", 1.0)
    monkeypatch.setattr(low_res, "MOST_NOISE", 0.0)
    monkeypatch.setattr(low_res, "REPAINTED_GUIDANCE", 1.5)
    network = Reads()
    painted = enlarged(network)
    assert painted.shape == (3, 3, 32, 32)
    assert network.tokens[0].tolist() == [[5] * 4] * 3 + [[0] * 4] * 3  # the captions, then as many empty ones
    # x_start is 0.5 with and 0 without the caption; guidance of 1.5 makes 0.75 of that
    torch.testing.assert_close(painted, torch.full_like(painted, 0.75), atol=1e-3, rtol=0)
    assert not painted.is_inference()  # else nothing could learn from it


def test_what_is_not_painted_again_is_near_the_true_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_res, "REPAINTED", 0.0)
    pictures = F.interpolate(torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)), scale_factor=8)
    true = F.avg_pool2d(pictures, 4)
    errors = [(F.avg_pool2d(enlarged(UNet(BASE), seed, pictures), 4) - true).abs().mean().item() for seed in range(12)]
    assert max(errors) < 0.15
    assert len(set(errors)) == len(errors)  # softened and noised by more or less each time
    assert min(errors) > 0


def test_most_batches_are_painted_again() -> None:
    network, painted = Reads().eval(), 0
    made = LowRes(network, EMPTY, seed=0)
    for _ in range(100):
        before = len(network.tokens)
        made.enlarged(torch.zeros(3, 3, 32, 32), TOKENS, MASK, torch.Generator())
        painted += len(network.tokens) > before
    assert 56 <= painted <= 84  # of 70, within three standard deviations
